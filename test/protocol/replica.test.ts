import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CodecName } from '../../protocol/codecs/codec.ts';
import { codecOf } from '../../protocol/codecs/index.ts';
import { hashOf } from '../../protocol/hash.ts';
import type { OuterConfig } from '../../protocol/outer/outer.ts';
import { type CertifiedUpdate, Replica } from '../../protocol/replica.ts';
import { codeOf, firstIndex, sameBits } from '../contracts/codec-contract.ts';
import { layoutOf, normalValues } from '../helpers/layouts.ts';

const layout = layoutOf(40, 1, 100);
const codec = (name: CodecName) => ({ name, chunk: 32, k: 4, bits: 2 }) as const;
const SGD: OuterConfig = { name: 'sgd', learningRate: 1, momentum: 0 };
const NESTEROV: OuterConfig = { name: 'nesterov', learningRate: 0.7, momentum: 0.9 };

function replicaOf(name: CodecName, outer: OuterConfig = SGD): Replica {
  const replica = new Replica({}, { layout, codec: codec(name), averaging: { name: 'all' }, outer, roundTokens: 10 });
  replica.parameters.set(normalValues(layout.length, 0.02, 1));
  return replica;
}

/** What local training would give: the agreed parameters, moved. */
function trained(replica: Replica, seed: number, scale = 1e-3): Float32Array {
  const change = normalValues(layout.length, scale, seed);
  return replica.parameters.map((value, i) => value - change[i]!);
}

const pendingOf = ({ ownWork }: Replica) => ownWork.pending?.values;
const own = (payload: Uint8Array): CertifiedUpdate => ({ payload, tokens: 10, own: 'pending' });
const others = (payload: Uint8Array): CertifiedUpdate => ({ payload, tokens: 10 });
/** Somebody's update that changes nothing. */
const nothing = (name: CodecName) => others(codecOf(codec(name)).encode(new Float32Array(layout.length), layout));

/** Everything a replica holds, to compare before and after. */
function stateOf(replica: Replica): string {
  const { residual, pending, unfinalOwn } = replica.exportOwn();
  const own = [residual, pending, unfinalOwn].map((work) => {
    return work && [work.tokens, hashOf(new Uint8Array(work.values.buffer))];
  });
  return `${hashOf(replica.snapshotBytes())}/${JSON.stringify(own)}`;
}

describe('a replica', () => {
  it('alone with fp32 and outer learning rate 1 becomes what it trained, up to float32 rounding', () => {
    const replica = replicaOf('fp32');
    for (let round = 0; round < 20; round++) {
      const before = replica.parameters.slice();
      const local = trained(replica, 50 + round);
      replica.apply([own(replica.contribute(local, 10).payload)], { final: true });
      const wrong = firstIndex(replica.parameters, (value, i) => {
        // theta - fl(theta - local): half a unit of the difference, then half a unit of the result
        const change = Math.abs(before[i]! - local[i]!);
        return Math.abs(value - local[i]!) > 2 ** -24 * (change + Math.abs(local[i]!)) * (1 + 2 ** -20);
      });
      expect(wrong).toBe(-1);
      expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
    }
  });

  for (const name of ['fp32', 'int8', 'sparseloco', 'topk'] as const) {
    it(`agrees bit for bit with another that got the same ${name} updates`, () => {
      const [a, b] = [replicaOf(name, NESTEROV), replicaOf(name, NESTEROV)];
      for (let round = 0; round < 5; round++) {
        const fromA = a.contribute(trained(a, 2 * round), 10).payload;
        const fromB = b.contribute(trained(b, 2 * round + 1), 10).payload;
        a.apply([own(fromA), others(fromB)], { final: true });
        b.apply([others(fromA), own(fromB)], { final: true });
        expect(a.snapshotId()).toBe(b.snapshotId());
      }
      expect(firstIndex(a.outerState, (value) => value !== 0)).not.toBe(-1);
    });
  }

  it('takes the residual along in the next update (error feedback), decayed as its codec says', () => {
    const replica = replicaOf('topk');
    replica.apply([own(replica.contribute(trained(replica, 1), 10).payload)], { final: true });
    const left = replica.residual.slice();
    expect(firstIndex(left, (value) => value !== 0)).not.toBe(-1);
    replica.contribute(replica.parameters.slice(), 10);
    const pending = pendingOf(replica)!;
    const wrong = firstIndex(left, (value, i) => Math.abs(replica.residual[i]! + pending[i]! - 0.95 * value) > 1e-9);
    expect(wrong).toBe(-1);
  });

  it('uses the vectors that its driver allocates', () => {
    const made: number[] = [];
    const allocate = (length: number) => {
      made.push(length);
      return new Float32Array(new SharedArrayBuffer(4 * length));
    };
    const init = {
      layout,
      codec: codec('topk'),
      averaging: { name: 'all' },
      outer: NESTEROV,
      roundTokens: 10,
    } as const;
    const replica = new Replica({ allocate }, init);
    expect(made).toEqual([layout.length, layout.length]);
    expect(replica.parameters.buffer).toBeInstanceOf(SharedArrayBuffer);
    replica.apply([own(replica.contribute(trained(replica, 1), 10).payload)], { final: true });
    expect(firstIndex(replica.parameters, (value) => value !== 0)).not.toBe(-1);
  });
});

describe('no work is lost', () => {
  type Step =
    | 'applied'
    | 'unfinal'
    | 'missed'
    | 'missed unfinal'
    | 'abandoned'
    | 'beyond'
    | 'beyond, missed'
    | 'adopted'
    | 'adopted pending'
    | 'restarted'
    | 'withdrawn';
  const steps: Step[] = [
    'applied',
    'unfinal',
    'missed',
    'missed unfinal',
    'abandoned',
    'beyond',
    'beyond, missed',
    'adopted',
    'adopted pending',
    'restarted',
    'withdrawn',
  ];

  /**
   * Plays rounds and checks after each that initial - parameters + residual + pending = all pseudo-gradients so far.
   * Others contribute nothing, so every change of the parameters is this peer's.
   */
  function play(name: CodecName, script: Step[]): void {
    let replica = replicaOf(name);
    const initial = replica.parameters.slice();
    const total = new Float64Array(layout.length);
    let lastFinal = replica.parameters.slice();
    const work = (round: number) => {
      const local = trained(replica, 1000 + round);
      for (let i = 0; i < total.length; i++) total[i]! += replica.parameters[i]! - local[i]!;
      return local;
    };
    const balance = () => {
      const { parameters, residual } = replica;
      const pending = pendingOf(replica);
      const off = firstIndex(initial, (value, i) => {
        const held = value - parameters[i]! + residual[i]! + (pending?.[i] ?? 0);
        return !(Math.abs(held - total[i]!) <= 1e-7);
      });
      expect(off).toBe(-1);
    };
    script.forEach((step, round) => {
      const final = !['unfinal', 'missed unfinal', 'abandoned', 'withdrawn'].includes(step);
      if (step === 'adopted') {
        replica.adopt(lastFinal, new Float32Array(0));
      } else if (step === 'abandoned') {
        expect(replica.abandon(work(round), 10)).toBe(true);
      } else {
        const { payload } = replica.contribute(work(round), 10);
        balance();
        if (step === 'adopted pending') {
          replica.adopt(lastFinal, new Float32Array(0));
        } else if (step === 'withdrawn') {
          replica.withdraw();
        } else {
          if (step.startsWith('beyond')) {
            // twice, from where the update and what it left out lead
            for (let further = 1; further <= 2; further++) {
              const from = replica.standing();
              const local = from.map((value, i) => value + 1e-3 * Math.sin(round + further + i));
              for (let i = 0; i < total.length; i++) total[i]! += from[i]! - local[i]!;
              expect(replica.abandon(local, 10, from)).toBe(true);
              balance();
            }
          }
          if (step === 'restarted') replica = restarted(replica, name);
          replica.apply(step.includes('missed') ? [nothing(name)] : [own(payload)], { final });
        }
      }
      if (final) lastFinal = replica.parameters.slice();
      expect(pendingOf(replica)).toBeUndefined();
      if (final) expect(replica.ownWork.unfinalOwn).toBeNull();
      balance();
    });
  }

  function restarted(replica: Replica, name: CodecName): Replica {
    const next = replicaOf(name);
    next.loadSnapshot(replica.snapshotBytes());
    next.importOwn(replica.exportOwn());
    expect(stateOf(next)).toBe(stateOf(replica));
    return next;
  }

  for (const name of ['fp32', 'fp16', 'int8'] as const) {
    it(`${name}: whatever becomes of the rounds`, () => {
      play(name, steps);
      const scripts = fc.array(fc.constantFrom(...steps), { minLength: 1, maxLength: 12 });
      fc.assert(
        fc.property(scripts, (script) => play(name, script)),
        { numRuns: 60 },
      );
    });
  }

  it('an unfinal round that another history undoes gives its own work back, once', () => {
    const replica = replicaOf('fp32');
    const before = replica.parameters.slice();
    const local = trained(replica, 3);
    replica.apply([own(replica.contribute(local, 10).payload)], { final: false });
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
    const history = before.map((value) => value + 1);
    replica.adopt(history, new Float32Array(0));
    expect(sameBits(replica.parameters, history)).toBe(true);
    const change = before.map((value, i) => value - local[i]!);
    expect(sameBits(replica.residual, change)).toBe(true);
    replica.adopt(before, new Float32Array(0));
    expect(sameBits(replica.residual, change)).toBe(true);
  });

  it('an own update that was given back counts once when a later history has it after all', () => {
    const replica = replicaOf('fp32');
    const local = trained(replica, 3);
    const change = replica.parameters.map((value, i) => value - local[i]!);
    const { payload } = replica.contribute(local, 10);
    replica.apply([nothing('fp32')], { final: false });
    expect(sameBits(replica.residual, change)).toBe(true);
    replica.apply([{ payload, tokens: 10, own: 'returned' }], { final: true });
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
  });

  it('an unfinal own update that the adopted history has too is not given back, and stays on the books', () => {
    const replica = replicaOf('fp32');
    const before = replica.parameters.slice();
    const { payload } = replica.contribute(trained(replica, 3), 10);
    replica.apply([own(payload)], { final: false });
    const unfinalOwn = replica.ownWork.unfinalOwn!.values.slice();
    replica.adopt(replica.parameters.slice(), new Float32Array(0), {
      final: [],
      unfinal: [{ payload, tokens: 10 }],
    });
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
    expect(sameBits(replica.ownWork.unfinalOwn!.values, unfinalOwn)).toBe(true);
    replica.adopt(replica.parameters.slice(), new Float32Array(0), {
      final: [{ payload, tokens: 10 }],
      unfinal: [],
    });
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
    expect(replica.ownWork.unfinalOwn).toBeNull();
    replica.adopt(before, new Float32Array(0));
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
  });

  it('a final round confirms unfinal ones: adopting later gives nothing back', () => {
    const replica = replicaOf('fp32');
    replica.apply([own(replica.contribute(trained(replica, 3), 10).payload)], { final: false });
    expect(replica.ownWork.unfinalOwn).not.toBeNull();
    replica.apply([nothing('fp32')], { final: true });
    replica.adopt(replica.parameters.slice(), new Float32Array(0));
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
  });
});

describe('rounds that came too late', () => {
  const missed = (replica: Replica): void => replica.apply([nothing('fp32')], { final: true });

  it('are in the next update, with their tokens', () => {
    const replica = replicaOf('fp32');
    expect(replica.contribute(trained(replica, 1), 10).tokens).toBe(10);
    missed(replica);
    expect(replica.abandon(trained(replica, 2), 4)).toBe(true);
    expect(replica.ownWork.residual.tokens).toBe(14);
    const update = replica.contribute(trained(replica, 3), 10);
    expect(update.tokens).toBe(24);
    replica.apply([{ ...update, own: 'pending' }], { final: true });
    expect(replica.ownWork.residual.tokens).toBe(0);
  });

  it('more of them than one update may carry go into several, and nothing is lost', () => {
    const replica = replicaOf('fp32');
    const sum = new Float64Array(layout.length);
    const train = (seed: number): Float32Array => {
      const local = trained(replica, seed);
      for (let i = 0; i < sum.length; i++) sum[i]! += replica.parameters[i]! - local[i]!;
      return local;
    };
    for (let seed = 0; seed < 12; seed++) expect(replica.abandon(train(seed), 10)).toBe(true);
    const applied = new Float64Array(layout.length);
    const tokens = [];
    for (let seed = 12; seed < 16; seed++) {
      const update = replica.contribute(train(seed), 10);
      for (let i = 0; i < applied.length; i++) applied[i]! += pendingOf(replica)![i]!;
      replica.apply([{ ...update, own: 'pending' }], { final: true });
      tokens.push(update.tokens);
    }
    expect(tokens).toEqual([50, 50, 50, 10]);
    expect(firstIndex(replica.residual, (value) => Math.abs(value) > 1e-7)).toBe(-1);
    expect(firstIndex(replica.residual, (_, i) => Math.abs(applied[i]! - sum[i]!) > 1e-6)).toBe(-1);
  });

  it('move the model by as much as if they had come in time', () => {
    const [inTime, late] = [replicaOf('fp32'), replicaOf('fp32')];
    const before = inTime.parameters.slice();
    const changes = [1, 2, 3, 4].map((seed) => normalValues(layout.length, 1e-3, seed));
    const moved = (change: Float32Array) => before.map((value, i) => value - change[i]!);
    const encode = (change: Float32Array) => codecOf(codec('fp32')).encode(change, layout);
    inTime.apply(
      changes.map((change) => others(encode(change))),
      { final: true },
    );
    for (const change of changes.slice(0, -1)) expect(late.abandon(moved(change), 10)).toBe(true);
    late.apply([{ ...late.contribute(moved(changes.at(-1)!), 10), own: 'pending' }], { final: true });
    const off = firstIndex(late.parameters, (value, i) => Math.abs(value - inTime.parameters[i]!) > 1e-8);
    expect(off).toBe(-1);
  });
});

describe('a replica that is handed something bad is left as it was', () => {
  it('diverged training', () => {
    const replica = replicaOf('int8', NESTEROV);
    replica.apply([own(replica.contribute(trained(replica, 1), 10).payload)], { final: true });
    const before = stateOf(replica);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const local = replica.parameters.slice();
      local[7] = bad;
      expect(codeOf(() => replica.contribute(local, 10))).toBe('E_NOT_FINITE');
      expect(replica.abandon(local, 10)).toBe(false);
      expect(stateOf(replica)).toBe(before);
    }
    const far = replica.parameters.map((_, i) => (i % 2 ? 3e38 : -3e38));
    expect(codeOf(() => replica.contribute(far, 10))).toBeUndefined();
  });

  it('a payload that does not check, after ones that do', () => {
    const replica = replicaOf('fp32', NESTEROV);
    const { payload } = replica.contribute(trained(replica, 1), 10);
    const before = stateOf(replica);
    const damaged = payload.slice();
    damaged.fill(0xff, 0, 4);
    expect(codeOf(() => replica.apply([own(payload), others(damaged)], { final: true }))).toBe('E_PAYLOAD_NOT_FINITE');
    expect(codeOf(() => replica.apply([own(payload.subarray(1))], { final: true }))).toBe('E_PAYLOAD_SIZE');
    expect(stateOf(replica)).toBe(before);
    expect(() => replica.apply([], { final: true })).toThrow(/assertion failed/);
    expect(() => replica.apply([own(payload), own(payload)], { final: true })).toThrow(/assertion failed/);
    expect(() => replica.contribute(replica.parameters, 10)).toThrow(/assertion failed/);
    expect(stateOf(replica)).toBe(before);
  });

  it('snapshots and own work of another size, or with NaN', () => {
    const replica = replicaOf('fp32', NESTEROV);
    replica.contribute(trained(replica, 1), 10);
    const before = stateOf(replica);
    const snapshot = replica.snapshotBytes();
    expect(snapshot.length).toBe(8 * layout.length);
    expect(codeOf(() => replica.loadSnapshot(snapshot.subarray(4)))).toBe('E_SNAPSHOT_SIZE');
    expect(codeOf(() => replica.loadSnapshot(snapshot.map(() => 0xff)))).toBe('E_NOT_FINITE');
    const saved = replica.exportOwn();
    const { residual } = saved;
    for (const bad of [
      { values: new Float32Array(0) },
      { values: residual.values.subarray(1) },
      { tokens: -1 },
      { tokens: 0.5 },
      { tokens: undefined as unknown as number },
    ]) {
      expect(codeOf(() => replica.importOwn({ ...saved, residual: { ...residual, ...bad } }))).toBe('E_OWN_FORMAT');
      expect(codeOf(() => replica.importOwn({ ...saved, unfinalOwn: { ...residual, ...bad } }))).toBe('E_OWN_FORMAT');
    }
    const damaged = { ...residual, values: residual.values.map(() => Number.NaN) };
    expect(codeOf(() => replica.importOwn({ ...saved, pending: damaged }))).toBe('E_NOT_FINITE');
    const nan = new Float32Array(layout.length).fill(Number.NaN);
    expect(codeOf(() => replica.adopt(nan, replica.outerState.slice()))).toBe('E_NOT_FINITE');
    expect(stateOf(replica)).toBe(before);
  });

  it('hashes with the injected digest only', () => {
    const sha256 = () => new Uint8Array(32).fill(0xab);
    const init = { layout, codec: codec('fp32'), averaging: { name: 'all' }, outer: SGD, roundTokens: 10 } as const;
    expect(new Replica({ sha256 }, init).snapshotId()).toBe('ab'.repeat(32));
  });
});

describe('snapshot bytes', () => {
  it('are parameters then outer state, little-endian float32', () => {
    const replica = replicaOf('fp32', NESTEROV);
    replica.outerState.fill(-2);
    const view = new DataView(replica.snapshotBytes().buffer);
    expect(view.getFloat32(4 * 5, true)).toBe(replica.parameters[5]);
    expect(view.getFloat32(4 * layout.length, true)).toBe(-2);
  });
});
