import { openSimulation } from '../node/cli/sim-run.ts';
import { SimulatedNetwork } from '../sim/network.ts';

const peers = Number(process.argv[2] ?? 200),
  rounds = Number(process.argv[3] ?? 2);
const counts: Record<string, number> = {};
const B = SimulatedNetwork.prototype as any;
const ob = B.broadcast,
  os = B.send;
B.broadcast = function (from: number, m: any) {
  const before = this.messages;
  ob.call(this, from, m);
  const k = `b ${m.type} ${m.kind ?? ''}${this.messages === before ? ' (said)' : ''}`;
  counts[k] = (counts[k] ?? 0) + 1;
};
B.send = function (from: number, to: number, m: any) {
  const k = `s ${m.type} ${m.kind ?? ''}`;
  counts[k] = (counts[k] ?? 0) + 1;
  os.call(this, from, to, m);
};
const o = await openSimulation({
  scenario: { latency: 'lognormal(40ms,0.3)' },
  backend: 'auto',
  evaluateEvery: 0,
  run: { rounds },
  peers,
  trainer: 'synthetic',
} as any);
const cpu = () => {
  const c = process.cpuUsage();
  return ((c.user + c.system) / 1e6).toFixed(1);
};
let last = { ...counts };
const show = (what: string) => {
  const d = Object.fromEntries(
    Object.entries(counts)
      .map(([k, v]) => [k, v - (last[k] ?? 0)])
      .filter(([, v]) => (v as number) > 0),
  );
  last = { ...counts };
  console.log(
    what,
    'virtual',
    (o.simulation.kernel.nowMs / 1000).toFixed(2),
    'cpu',
    cpu(),
    'events',
    o.simulation.kernel.events,
    JSON.stringify(d),
  );
};
import { Session } from 'node:inspector';
import { writeFileSync } from 'node:fs';
const session = new Session(); session.connect(); const [pf, pt] = (process.argv[4] ?? '-1,-1').split(',').map(Number); const post = (m: string, p?: any) => new Promise<any>((res, rej) => session.post(m, p, (e, r) => e ? rej(e) : res(r)));
if (pf! >= 0) { await post('Profiler.enable'); await post('Profiler.setSamplingInterval', { interval: 500 }); }
if (pf === 0) await post('Profiler.start');
const mark = (r: number) => { if (r === pf) session.post('Profiler.start'); if (r === pt) session.post('Profiler.stop', (e: any, x: any) => writeFileSync('/tmp/p.cpuprofile', JSON.stringify(x.profile))); };
const t = setInterval(() => 0, 1000);
clearInterval(t);
const orig = o.simulation.kernel.at.bind(o.simulation.kernel);
const r = await o.simulation.run({ onRound: (row) => (mark(row.round), show(`round ${row.round} contributors ${row.contributors}`)) });
show('end ' + r.reason + ' ' + JSON.stringify(r.warnings) + ' ' + (process.memoryUsage().rss / 1e6).toFixed(0) + ' MB');
