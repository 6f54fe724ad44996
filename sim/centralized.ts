import { assert } from '../protocol/errors.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { ReplicaHost } from './replica-host.ts';

export interface CentralizedPoint {
  /** steps done */
  step: number;
  /** nats, over a sample of the validation split */
  loss: number;
  /** over the whole split: after the last step alone */
  wholeLoss: number | null;
}

const PEER = 0;

/**
 * Training in one place: the host's first replica takes all steps, and between two evaluations its update comes back to
 * it by a plain outer step at rate 1, which is the training itself up to one float32 rounding a parameter.
 * `genesis` must have codec fp32, outer sgd at 1 and rounds of `evaluateEvery` steps; its batch is what a step trains on.
 */
export async function* trainCentralized(
  genesis: Genesis,
  host: ReplicaHost,
  { steps, evaluateEvery }: { steps: number; evaluateEvery: number },
): AsyncGenerator<CentralizedPoint, void, void> {
  assert(genesis.codec.name === 'fp32' && genesis.outer.name === 'sgd', 'what was trained comes back as it was');
  await host.initialize(PEER);
  for (let done = 0; done < steps; ) {
    const part = Math.min(evaluateEvery, steps - done);
    host.train(PEER, { round: 0, firstStep: done, steps: part, firstPosition: done * genesis.batch });
    const update = await host.contribute(PEER, part);
    done += part;
    // a training that fell apart stays where it was, and its loss says so
    if (update) {
      const block = `centralized ${done}`;
      await host.apply(PEER, { block, round: 0, updates: [update], own: 0, final: true });
    }
    const last = done >= steps;
    // waited for together: where the host is closed meanwhile, both fail, and neither may be left without a reader
    const asked = [host.evaluate(PEER, false), last ? host.evaluate(PEER, true) : null] as const;
    const [loss, wholeLoss] = await Promise.all(asked);
    yield { step: done, loss: loss ?? Number.NaN, wholeLoss };
  }
}
