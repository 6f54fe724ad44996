/**
 * Prints one plain line for machines from vitest's JSON report: `node scripts/count-tests.js report.json`.
 * Exit 1 when no test passed or any failed, so that an empty or broken run cannot look like success.
 */
import { readFileSync } from 'node:fs';

const report = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const passed = report.numPassedTests;
const skipped = report.numPendingTests + report.numTodoTests;
// a file that does not even load has no tests to count: it is one failure
const unloadable = report.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0);
const failed = report.numFailedTests + unloadable.length;

console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
if (failed > 0 || passed === 0) process.exitCode = 1;
