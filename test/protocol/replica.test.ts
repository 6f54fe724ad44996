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
  const replica = new Replica({}, { layout, codec: codec(name), averaging: { name: 'all' }, outer });
  replica.parameters.set(normalValues(layout.length, 0.02, 1));
  return replica;
}

/** What local training would give: the agreed parameters, moved. */
function trained(replica: Replica, seed: number, scale = 1e-3): Float32Array {
  const change = normalValues(layout.length, scale, seed);
  return replica.parameters.map((value, i) => value - change[i]!);
}

const own = (payload: Uint8Array): CertifiedUpdate => ({ payload, tokens: 10, own: 'pending' });
const others = (payload: Uint8Array): CertifiedUpdate => ({ payload, tokens: 10 });
/** Somebody's update that changes nothing. */
const nothing = (name: CodecName) => others(codecOf(codec(name)).encode(new Float32Array(layout.length), layout));

/** Everything a replica holds, to compare before and after. */
function stateOf(replica: Replica): string {
  return `${hashOf(replica.snapshotBytes())}/${hashOf(replica.exportOwn())}`;
}

describe('a replica', () => {
  it('alone with fp32 and outer learning rate 1 becomes what it trained, up to float32 rounding', () => {
    const replica = replicaOf('fp32');
    for (let round = 0; round < 20; round++) {
      const before = replica.parameters.slice();
      const local = trained(replica, 50 + round);
      replica.apply([own(replica.contribute(local).payload)], { final: true });
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
        const fromA = a.contribute(trained(a, 2 * round)).payload;
        const fromB = b.contribute(trained(b, 2 * round + 1)).payload;
        a.apply([own(fromA), others(fromB)], { final: true });
        b.apply([others(fromA), own(fromB)], { final: true });
        expect(a.snapshotId()).toBe(b.snapshotId());
      }
      expect(firstIndex(a.outerState, (value) => value !== 0)).not.toBe(-1);
    });
  }

  it('takes the residual along in the next update (error feedback), decayed as its codec says', () => {
    const replica = replicaOf('topk');
    replica.apply([own(replica.contribute(trained(replica, 1)).payload)], { final: true });
    const left = replica.residual.slice();
    expect(firstIndex(left, (value) => value !== 0)).not.toBe(-1);
    replica.contribute(replica.parameters.slice());
    const pending = replica.pending!;
    const wrong = firstIndex(left, (value, i) => Math.abs(replica.residual[i]! + pending[i]! - 0.95 * value) > 1e-9);
    expect(wrong).toBe(-1);
  });

  it('uses the vectors that its driver allocates', () => {
    const made: number[] = [];
    const allocate = (length: number) => {
      made.push(length);
      return new Float32Array(new SharedArrayBuffer(4 * length));
    };
    const init = { layout, codec: codec('topk'), averaging: { name: 'all' }, outer: NESTEROV } as const;
    const replica = new Replica({ allocate }, init);
    expect(made).toEqual([layout.length, layout.length]);
    expect(replica.parameters.buffer).toBeInstanceOf(SharedArrayBuffer);
    replica.apply([own(replica.contribute(trained(replica, 1)).payload)], { final: true });
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
      const { parameters, residual, pending } = replica;
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
        expect(replica.abandon(work(round))).toBe(true);
      } else {
        const { payload } = replica.contribute(work(round));
        balance();
        if (step === 'adopted pending') {
          replica.adopt(lastFinal, new Float32Array(0));
        } else if (step === 'withdrawn') {
          replica.withdraw();
        } else {
          if (step === 'restarted') replica = restarted(replica, name);
          replica.apply(step.startsWith('missed') ? [nothing(name)] : [own(payload)], { final });
        }
      }
      if (final) lastFinal = replica.parameters.slice();
      expect(replica.pending).toBeUndefined();
      if (final) expect(replica.unfinalOwn).toBeUndefined();
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
    replica.apply([own(replica.contribute(local).payload)], { final: false });
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
    const { payload } = replica.contribute(local);
    replica.apply([nothing('fp32')], { final: false });
    expect(sameBits(replica.residual, change)).toBe(true);
    replica.apply([{ payload, tokens: 10, own: 'returned' }], { final: true });
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
  });

  it('an unfinal own update that the adopted history has too is not given back, and stays on the books', () => {
    const replica = replicaOf('fp32');
    const before = replica.parameters.slice();
    const { payload } = replica.contribute(trained(replica, 3));
    replica.apply([own(payload)], { final: false });
    const unfinalOwn = replica.unfinalOwn!.slice();
    replica.adopt(replica.parameters.slice(), new Float32Array(0), { final: [], unfinal: [payload] });
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
    expect(sameBits(replica.unfinalOwn!, unfinalOwn)).toBe(true);
    replica.adopt(replica.parameters.slice(), new Float32Array(0), { final: [payload], unfinal: [] });
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
    expect(replica.unfinalOwn).toBeUndefined();
    replica.adopt(before, new Float32Array(0));
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
  });

  it('a final round confirms unfinal ones: adopting later gives nothing back', () => {
    const replica = replicaOf('fp32');
    replica.apply([own(replica.contribute(trained(replica, 3)).payload)], { final: false });
    expect(replica.unfinalOwn).toBeDefined();
    replica.apply([nothing('fp32')], { final: true });
    replica.adopt(replica.parameters.slice(), new Float32Array(0));
    expect(firstIndex(replica.residual, (value) => value !== 0)).toBe(-1);
  });
});

describe('a replica that is handed something bad is left as it was', () => {
  it('diverged training', () => {
    const replica = replicaOf('int8', NESTEROV);
    replica.apply([own(replica.contribute(trained(replica, 1)).payload)], { final: true });
    const before = stateOf(replica);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const local = replica.parameters.slice();
      local[7] = bad;
      expect(codeOf(() => replica.contribute(local))).toBe('E_NOT_FINITE');
      expect(replica.abandon(local)).toBe(false);
      expect(stateOf(replica)).toBe(before);
    }
    const far = replica.parameters.map((_, i) => (i % 2 ? 3e38 : -3e38));
    expect(codeOf(() => replica.contribute(far))).toBeUndefined();
  });

  it('a payload that does not check, after ones that do', () => {
    const replica = replicaOf('fp32', NESTEROV);
    const { payload } = replica.contribute(trained(replica, 1));
    const before = stateOf(replica);
    const damaged = payload.slice();
    damaged.fill(0xff, 0, 4);
    expect(codeOf(() => replica.apply([own(payload), others(damaged)], { final: true }))).toBe('E_PAYLOAD_NOT_FINITE');
    expect(codeOf(() => replica.apply([own(payload.subarray(1))], { final: true }))).toBe('E_PAYLOAD_SIZE');
    expect(stateOf(replica)).toBe(before);
    expect(() => replica.apply([], { final: true })).toThrow(/assertion failed/);
    expect(() => replica.apply([own(payload), own(payload)], { final: true })).toThrow(/assertion failed/);
    expect(() => replica.contribute(replica.parameters)).toThrow(/assertion failed/);
    expect(stateOf(replica)).toBe(before);
  });

  it('snapshots and own work of another size, or with NaN', () => {
    const replica = replicaOf('fp32', NESTEROV);
    replica.contribute(trained(replica, 1));
    const before = stateOf(replica);
    const snapshot = replica.snapshotBytes();
    expect(snapshot.length).toBe(8 * layout.length);
    expect(codeOf(() => replica.loadSnapshot(snapshot.subarray(4)))).toBe('E_SNAPSHOT_SIZE');
    expect(codeOf(() => replica.loadSnapshot(snapshot.map(() => 0xff)))).toBe('E_NOT_FINITE');
    const saved = replica.exportOwn();
    const flagged = saved.slice();
    flagged[0] = 4;
    for (const bad of [new Uint8Array(0), saved.subarray(1), saved.subarray(0, -1), flagged]) {
      expect(codeOf(() => replica.importOwn(bad))).toBe('E_OWN_FORMAT');
    }
    expect(codeOf(() => replica.importOwn(saved.map((byte, i) => (i === 0 ? byte : 0xff))))).toBe('E_NOT_FINITE');
    const nan = new Float32Array(layout.length).fill(Number.NaN);
    expect(codeOf(() => replica.adopt(nan, replica.outerState.slice()))).toBe('E_NOT_FINITE');
    expect(stateOf(replica)).toBe(before);
  });

  it('hashes with the injected digest only', () => {
    const sha256 = () => new Uint8Array(32).fill(0xab);
    const init = { layout, codec: codec('fp32'), averaging: { name: 'all' }, outer: SGD } as const;
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
