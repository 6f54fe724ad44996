/**
 * `node start [options]` begins or joins a run, from a clone: it is `outerloop start [options]`. A first argument that
 * is a word is taken for another command (`node start doctor`).
 *
 * Written so that an old Node can parse it: node/cli/outerloop.js then says which one is needed.
 */
if (process.argv.length < 3 || process.argv[2].startsWith('-')) process.argv.splice(2, 0, 'start');
void import('./node/cli/outerloop.js');
