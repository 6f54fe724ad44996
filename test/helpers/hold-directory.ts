import { writeSync } from 'node:fs';
import { openDirectory } from '../../node/store/directory.ts';

/**
 * A process that takes the folder `argv[2]` for the genesis `argv[3]`, says so in one line and holds it until it is
 * killed or its input ends.
 */
const [, , path = '', genesis = ''] = process.argv;
try {
  openDirectory(path, new TextEncoder().encode(genesis));
  writeSync(1, 'held\n');
} catch (error) {
  writeSync(1, `${(error as { code: string }).code}\n`);
}
process.stdin.resume().on('end', () => process.exit());
