import { randomStream } from '../protocol/random.ts';
import { type Distribution, draw, normal } from './distribution.ts';
import { NETWORK_PARAMETERS } from './gossip-parameters.ts';

/** How peers are connected. Rates in bits a second; absent is without limit. */
export interface LinkConfig {
  /** one-way latency of a link, drawn once for every pair of peers; not used between peers with a region */
  latency: Distribution;
  /** the two directions of a link are drawn separately */
  asymmetric: boolean;
  uploadBits?: number;
  downloadBits?: number;
  /** packets lost, as a share */
  loss: number;
  /** regions by turns: peer i is in `regions[i % regions.length]`; none for links by `latency` alone */
  regions: Region[];
  /** peers that differ, by index */
  peers: Record<number, { uploadBits?: number; downloadBits?: number; region?: Region }>;
}

export const REGIONS = ['us-east', 'us-west', 'eu-west', 'eu-central', 'ap-south', 'ap-northeast', 'sa-east'] as const;
export type Region = (typeof REGIONS)[number];

/**
 * Round trips in milliseconds between data centers, of the order seen between regions of large clouds: estimates, not
 * measurements. The upper triangle, in the order of REGIONS, beginning with the region itself.
 */
const ROUND_TRIPS_MS: Readonly<Record<Region, readonly number[]>> = {
  'us-east': [2, 65, 75, 92, 200, 155, 115],
  'us-west': [2, 135, 150, 225, 105, 175],
  'eu-west': [2, 25, 125, 205, 180],
  'eu-central': [2, 110, 225, 205],
  'ap-south': [2, 130, 300],
  'ap-northeast': [2, 260],
  'sa-east': [2],
};
/** Paths inside a region pair differ by so much (sigma of the logarithm). */
const REGION_SPREAD = 0.1;

export function regionRoundTripMs(a: Region, b: Region): number {
  const [first, second] = [REGIONS.indexOf(a), REGIONS.indexOf(b)];
  const [low, high] = [Math.min(first, second), Math.max(first, second)];
  return ROUND_TRIPS_MS[REGIONS[low]!][high - low]!;
}

/** Latency and rates between peers, each link's drawn from the seed when it is first used, whenever that is. */
export class Links {
  readonly loss: number;
  /** neither bandwidth nor loss adds anything to a link's latency */
  readonly areUnbounded: boolean;
  readonly #config: LinkConfig;
  readonly #seed: number;
  readonly #latencies = new Map<number, number>();

  constructor(config: LinkConfig, seed: number) {
    this.#config = config;
    this.#seed = seed;
    this.loss = config.loss;
    const rates = [config, ...Object.values(config.peers)].flatMap((link) => [link.uploadBits, link.downloadBits]);
    this.areUnbounded = config.loss === 0 && rates.every((bits) => bits === undefined);
  }

  oneWayMs(from: number, to: number): number {
    if (from === to) return 0;
    const { latency, regions, peers, asymmetric } = this.#config;
    const [regionFrom, regionTo] = [this.#region(from), this.#region(to)];
    if (latency.kind === 'constant' && regions.length === 0 && Object.keys(peers).length === 0) return latency.value;
    const [a, b] = asymmetric ? [from, to] : [Math.min(from, to), Math.max(from, to)];
    const key = a * PEERS_MAX + b;
    let known = this.#latencies.get(key);
    if (known === undefined) {
      const random = randomStream(this.#seed, 'latency', a, b);
      known =
        regionFrom && regionTo
          ? (regionRoundTripMs(regionFrom, regionTo) / 2) * Math.exp(REGION_SPREAD * normal(random))
          : draw(latency, random);
      this.#latencies.set(key, known);
    }
    return known;
  }

  roundTripMs(a: number, b: number): number {
    return this.oneWayMs(a, b) + this.oneWayMs(b, a);
  }

  /** bytes a millisecond */
  uploadRate(peer: number): number {
    return bytesAMillisecond(this.#config.peers[peer]?.uploadBits ?? this.#config.uploadBits);
  }

  downloadRate(peer: number): number {
    return bytesAMillisecond(this.#config.peers[peer]?.downloadBits ?? this.#config.downloadBits);
  }

  /**
   * What TCP reaches on a path that loses packets, in bytes a millisecond: rate = MSS / RTT x sqrt(3/2) / sqrt(p) (Mathis,
   * Semke, Mahdavi, Ott 1997, eq. 3 without delayed acknowledgements).
   */
  lossyRate(from: number, to: number): number {
    if (this.loss === 0) return Number.POSITIVE_INFINITY;
    const roundTripMs = Math.max(this.roundTripMs(from, to), 0.1);
    return (NETWORK_PARAMETERS.segmentBytes / roundTripMs) * Math.sqrt(1.5 / this.loss);
  }

  /** A message of few packets whose last one is lost waits for the retransmission timer: RTO = max(200 ms, 2 RTT). */
  stallMs(from: number, to: number): number {
    return Math.max(NETWORK_PARAMETERS.retransmitMsMin, 2 * this.roundTripMs(from, to));
  }

  /** Chance that a message of so many bytes meets a stall: that one of its packets is lost. */
  stallChance(bytes: number): number {
    return this.loss === 0 ? 0 : 1 - (1 - this.loss) ** Math.ceil(bytes / NETWORK_PARAMETERS.segmentBytes);
  }

  #region(peer: number): Region | undefined {
    const { peers, regions } = this.#config;
    return peers[peer]?.region ?? regions[peer % Math.max(1, regions.length)];
  }
}

const PEERS_MAX = 1 << 20;

function bytesAMillisecond(bits: number | undefined): number {
  return bits === undefined ? Number.POSITIVE_INFINITY : bits / 8000;
}
