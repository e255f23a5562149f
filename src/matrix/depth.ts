/**
 * Depths: a claim of each sender's, as 64-bit integers, since versions 1 to 5 allow more than a JavaScript number holds, and
 * rooms hold events of that depth since an attack in 2018.
 */
import { type RoomVersionRules } from './room-versions.ts';

interface Deep {
  readonly depth: bigint;
}

/** Shallowest first. */
export function compareDepths({ depth: a }: Deep, { depth: b }: Deep): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** The depth of an event that should be at `depth`: a room whose depth was driven to the limit must not stop there. */
export function cappedDepth(depth: bigint, { depthMax }: RoomVersionRules): bigint {
  return depth > depthMax ? depthMax : depth;
}
