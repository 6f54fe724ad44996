import type { Fault, Plan } from './plan.ts';
import { type Outcome, Swarm } from './swarm.ts';

/** Runs tried at most: a shrunk schedule is for reading, the smallest one is not needed. */
const TRIES_MAX = 120;

/**
 * Takes faults away, by halves and then one by one, as long as the same checker still fails.
 * @param run plays a plan
 * @returns the plan with those that are left, and how it failed
 */
export async function shrink(
  plan: Plan,
  failed: Outcome,
  run: (plan: Plan) => Promise<Outcome> = (each) => new Swarm(each).run(),
): Promise<{ plan: Plan; outcome: Outcome }> {
  let [best, outcome] = [plan, failed];
  let tries = TRIES_MAX;
  const stillFails = async (faults: Fault[]): Promise<boolean> => {
    tries--;
    const smaller = { ...plan, faults };
    const again = await run(smaller);
    if (again.failure?.checker !== failed.failure?.checker) return false;
    [best, outcome] = [smaller, again];
    return true;
  };
  for (let size = Math.ceil(plan.faults.length / 2); size >= 1 && tries > 0; ) {
    let removed = false;
    for (let from = 0; from < best.faults.length && tries > 0; ) {
      const rest = best.faults.filter((_, i) => i < from || i >= from + size);
      if (await stillFails(rest)) removed = true;
      else from += size;
    }
    // what was needed beside others may not be needed without them
    if (size > 1) size = Math.floor(size / 2);
    else if (!removed) break;
  }
  return { plan: best, outcome };
}
