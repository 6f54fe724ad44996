/** What every command prints with `--json`: one object a line on standard output. */
export function printJson(event: object): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}
