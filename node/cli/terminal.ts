/** What we need of `process.stdout`. */
export interface Sink {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

const STYLES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Style = keyof typeof STYLES;

const ERASE_LINE = '\r\x1b[2K';
/** Where the terminal does not say, or says 0. */
const COLUMNS = 80;

/**
 * Lines of text with, on a terminal, one status line below them that is written over again and again. Where output goes to
 * a file or a pipe there are only the lines, without colours.
 */
export class Terminal {
  /** has a status line */
  readonly live: boolean;
  readonly #sink: Sink;
  readonly #colours: boolean;
  #status = '';

  /** @param environment `NO_COLOR` as of no-color.org; `TERM=dumb` cannot write over a line */
  constructor(sink: Sink, environment: { NO_COLOR?: string | undefined; TERM?: string | undefined }) {
    this.#sink = sink;
    this.live = sink.isTTY === true && environment.TERM !== 'dumb';
    this.#colours = this.live && !environment.NO_COLOR;
  }

  line(text = ''): void {
    if (this.#status === '') this.#sink.write(`${text}\n`);
    else this.#sink.write(`${ERASE_LINE}${text}\n${this.#status}`);
  }

  /**
   * Replaces the status line; an empty text takes it away. Without colours.
   * @param shorter the same ever shorter: the first that fits is shown, or as much of the last as does
   */
  status(text: string, ...shorter: string[]): void {
    if (!this.live) return;
    // the last column stays free: a full line would wrap
    const columns = (this.#sink.columns || COLUMNS) - 1;
    const fitting = [text, ...shorter].find((each) => [...each].length <= columns);
    const shown = fitting ?? `${[...(shorter.at(-1) ?? text)].slice(0, columns - 1).join('')}…`;
    if (shown === this.#status) return;
    this.#status = shown;
    this.#sink.write(ERASE_LINE + shown);
  }

  paint(style: Style, text: string): string {
    return this.#colours ? `\x1b[${STYLES[style]}m${text}\x1b[0m` : text;
  }
}
