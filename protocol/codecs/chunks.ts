import type { Layout } from '../model.ts';

/** `k` of every `chunk` values are kept. Chunks are contiguous and never cross from one tensor into the next. */
export interface Selection {
  chunk: number;
  k: number;
}

/** Values kept of a chunk of this length: k of a full one, the same share of a tensor's short last one, at least 1. */
export function keptOf(length: number, { chunk, k }: Selection): number {
  return Math.min(length, Math.max(1, Math.round((length * k) / chunk)));
}

/** Calls `visit` for every chunk, in parameter order. */
export function eachChunk(
  layout: Layout,
  selection: Selection,
  visit: (start: number, length: number, kept: number, tensor: number) => void,
): void {
  layout.tensors.forEach(({ offset, length }, tensor) => {
    for (let done = 0; done < length; done += selection.chunk) {
      const chunkLength = Math.min(selection.chunk, length - done);
      visit(offset + done, chunkLength, keptOf(chunkLength, selection), tensor);
    }
  });
}

/** Chunks of one length, all tensors together. */
export interface ChunkGroup {
  length: number;
  kept: number;
  count: number;
}

/**
 * The chunks of a layout by length: how large a payload is follows from these in O(tensors), without a walk over
 * chunks.
 */
export function chunkGroups(layout: Layout, selection: Selection): ChunkGroup[] {
  const full: ChunkGroup = { length: selection.chunk, kept: selection.k, count: 0 };
  const groups = [full];
  for (const { length } of layout.tensors) {
    full.count += Math.floor(length / selection.chunk);
    const rest = length % selection.chunk;
    if (rest > 0) groups.push({ length: rest, kept: keptOf(rest, selection), count: 1 });
  }
  return groups;
}

export function totalOf(groups: readonly ChunkGroup[], value: (group: ChunkGroup) => number): number {
  return groups.reduce((total, group) => total + group.count * value(group), 0);
}
