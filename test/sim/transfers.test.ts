import fc from 'fast-check';
import { expect, test } from 'vitest';
import { constant } from '../../sim/distribution.ts';
import { Kernel } from '../../sim/kernel.ts';
import { type LinkConfig, Links, REGIONS, regionRoundTripMs } from '../../sim/links.ts';
import { Transfers } from '../../sim/transfers.ts';

function world(config: Partial<LinkConfig>) {
  const kernel = new Kernel();
  const base: LinkConfig = { latency: constant(40), asymmetric: false, loss: 0, regions: [], peers: {} };
  const links = new Links({ ...base, ...config }, 1);
  return { kernel, links, transfers: new Transfers(kernel, links) };
}

const toTheEnd = { until: () => false };
const MBIT = 1e6;

test('B bytes at bandwidth b and latency l take l + B/b', async () => {
  const sizes = { bytes: fc.integer({ min: 1, max: 1e8 }), latency: fc.integer({ min: 0, max: 500 }) };
  const rates = { up: fc.integer({ min: 1, max: 1000 }), down: fc.integer({ min: 1, max: 1000 }) };
  await fc.assert(
    fc.asyncProperty(fc.record({ ...sizes, ...rates }), async ({ bytes, latency, up, down }) => {
      const bits = { uploadBits: up * MBIT, downloadBits: down * MBIT };
      const { kernel, transfers } = world({ latency: constant(latency), ...bits });
      let arrivedMs = Number.NaN;
      transfers.start(0, 1, bytes, () => (arrivedMs = kernel.nowMs));
      await kernel.run(toTheEnd);
      expect(arrivedMs).toBeCloseTo(latency + (8 * bytes) / (Math.min(up, down) * 1000), 6);
    }),
  );
});

test('an uplink is shared alike, and who is left has all of it', async () => {
  const { kernel, transfers } = world({ uploadBits: 8 * MBIT });
  const arrivals: number[] = [];
  for (const [to, bytes] of [[1, 1_000_000] as const, [2, 3_000_000] as const]) {
    transfers.start(0, to, bytes, () => arrivals.push(kernel.nowMs));
  }
  await kernel.run(toTheEnd);
  // 1 MB at half of 1 MB/s, then the other's last 2 MB at all of it
  expect(arrivals).toEqual([2040, 4040]);
});

test('two senders share a downlink', async () => {
  const { kernel, transfers } = world({ downloadBits: 8 * MBIT });
  const arrivals: number[] = [];
  for (const from of [1, 2]) transfers.start(from, 0, 1_000_000, () => arrivals.push(kernel.nowMs));
  await kernel.run(toTheEnd);
  expect(arrivals).toEqual([2040, 2040]);
});

test('a transfer that is cancelled gives its share back', async () => {
  const { kernel, transfers } = world({ uploadBits: 8 * MBIT });
  let arrivedMs = Number.NaN;
  transfers.start(0, 1, 1_000_000, () => (arrivedMs = kernel.nowMs));
  const other = transfers.start(0, 2, 9_000_000, () => expect.unreachable('it was cancelled'));
  kernel.at(1000, () => transfers.cancel(other));
  await kernel.run(toTheEnd);
  // half a megabyte in the first second, the rest in half a second
  expect(arrivedMs).toBe(1540);
});

test('a lossy path is as fast as Mathis says, whatever the line could do', async () => {
  const { kernel, links, transfers } = world({ uploadBits: 1e9, loss: 0.01 });
  let arrivedMs = Number.NaN;
  transfers.start(0, 1, 1_000_000, () => (arrivedMs = kernel.nowMs));
  await kernel.run(toTheEnd);
  const rate = (1448 / 80) * Math.sqrt(1.5 / 0.01);
  expect(links.lossyRate(0, 1)).toBeCloseTo(rate, 9);
  expect(arrivedMs).toBeCloseTo(40 + 1_000_000 / rate, 6);
});

test('latency is drawn once for a link: the same again, in both directions unless asymmetric', () => {
  const latency = { kind: 'lognormal', median: 80, sigma: 0.3 } as const;
  const { links } = world({ latency });
  const asymmetric = new Links({ latency, asymmetric: true, loss: 0, regions: [], peers: {} }, 1);
  expect(links.oneWayMs(3, 5)).toBe(links.oneWayMs(5, 3));
  expect(asymmetric.oneWayMs(3, 5)).toBe(asymmetric.oneWayMs(3, 5));
  expect(asymmetric.oneWayMs(3, 5)).not.toBe(asymmetric.oneWayMs(5, 3));
  const drawn = Array.from({ length: 2000 }, (_, i) => Math.log(links.oneWayMs(0, i + 1) / 80));
  const mean = drawn.reduce((sum, x) => sum + x, 0) / drawn.length;
  const deviation = Math.sqrt(drawn.reduce((sum, x) => sum + x * x, 0) / drawn.length);
  expect(Math.abs(mean)).toBeLessThan(0.03);
  expect(Math.abs(deviation - 0.3)).toBeLessThan(0.02);
});

test('regions: every pair has one round trip, shortest inside', () => {
  for (const a of REGIONS) {
    for (const b of REGIONS) {
      expect(regionRoundTripMs(a, b)).toBe(regionRoundTripMs(b, a));
      expect(regionRoundTripMs(a, b)).toBeGreaterThanOrEqual(regionRoundTripMs(a, a));
    }
  }
});

test('a link between regions takes half a round trip, one way as the other, give or take a tenth', () => {
  const { links } = world({ regions: ['us-east', 'eu-west', 'ap-south'], peers: { 3: { region: 'sa-east' } } });
  const regionOf = (peer: number) =>
    peer === 3 ? 'sa-east' : (['us-east', 'eu-west', 'ap-south'] as const)[peer % 3]!;
  let [count, sum, squares] = [0, 0, 0];
  for (let a = 0; a < 60; a++) {
    for (let b = 0; b < a; b++) {
      expect(links.oneWayMs(a, b)).toBe(links.oneWayMs(b, a));
      const log = Math.log(links.oneWayMs(a, b) / (regionRoundTripMs(regionOf(a), regionOf(b)) / 2));
      count++;
      sum += log;
      squares += log * log;
    }
  }
  expect(Math.abs(sum / count)).toBeLessThan(0.01);
  expect(Math.abs(Math.sqrt(squares / count) - 0.1)).toBeLessThan(0.01);
});

test('a region counts between peers that have one; else the latency does', () => {
  const { links } = world({ peers: { 0: { region: 'us-east' }, 1: { region: 'ap-south' } } });
  expect(links.oneWayMs(0, 1)).toBeGreaterThan(70);
  expect([links.oneWayMs(0, 2), links.oneWayMs(2, 3)]).toEqual([40, 40]);
});
