/** What links are like: every connection of two peers behind proxies, every peer's link in namespaces. */
export interface LinkShape {
  /** one-way @default 0 */
  latencyMs?: number;
  /** in each direction @default without limit */
  bytesPerSecond?: number;
}

/** Where a peer is: behind a link that can be cut. */
export interface Place {
  /** of `start`: where to listen, and what to tell others */
  options: string[];
  /** begins a process there: what comes before its own command line */
  command: readonly string[];
}

/** What is between the peers of a swarm on this machine. */
export interface Links {
  place(peer: number): Promise<Place>;
  /** Lets nothing from a peer or to it pass. */
  cut(peer: number): void;
  heal(peer: number): void;
  /** The peers have ended. */
  close(): void;
}
