import { addressOf, eventually, Swarm, textBytes } from './swarm.ts';

/** Connects, talks, leaves a dead address to be redialed, stops; then nothing must keep this process alive. */
const swarm = new Swarm();
const [a, b, c] = await swarm.joined(3);
if (!a || !b || !c) throw new Error('three peers were started');
await a.network.broadcast(textBytes('hello'));
await b.network.request(a.id, Uint8Array.of(1));
await c.network.sendTo(b.id, textBytes('hello again'));
await eventually(() => b.messages.length === 2, 'both messages');
const gone = addressOf(c);
await c.network.stop();
await a.network.dial(gone).catch(() => undefined);
await swarm.stop();

const late = setTimeout(() => {
  console.log(`still open: ${process.getActiveResourcesInfo().join(', ')}`);
  process.exit(1);
}, 20_000);
late.unref();
process.on('exit', (code) => {
  if (code === 0) console.log('stopped with nothing open');
});
