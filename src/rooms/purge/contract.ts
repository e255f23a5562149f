/** What may be asked of purges and what they answer, in shapes; no code. Throws `RoomError`. */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';

/** What a purge of a room would delete. */
export interface PurgePlan {
  readonly roomId: RoomId;
  /** Users of ours who are in it: with them it is purged by force alone. */
  readonly members: readonly UserId[];
  /** Joins and leaves of ours that are recorded and not settled: likewise. */
  readonly openMoves: number;
  /** Rows of each table that has any, the larger first. */
  readonly tables: readonly { readonly table: string; readonly rows: number }[];
}

export interface PurgeRequest {
  readonly roomId: RoomId;
  /** Users of ours who are in it leave first. */
  readonly isForced: boolean;
}

/**
 * - `leaving`: users of ours are leaving the room;
 * - `telling`: nothing of it is written any more, and other servers are told of what was said last;
 * - `deleting`;
 * - `done`: nothing is left but the entry of the journal that says so.
 */
export type PurgeStep = 'leaving' | 'telling' | 'deleting' | 'done';

export interface PurgeStatus {
  readonly roomId: RoomId;
  readonly purgeId: string;
  readonly step: PurgeStep;
  readonly putOut: readonly UserId[];
  /** Rows deleted so far; `null` of one that is done, of which that is not kept. */
  readonly rows: number | null;
  readonly requestedAt: number;
  /** `null`: it is not done. */
  readonly doneAt: number | null;
}

export interface Purges {
  plan(roomId: RoomId): Promise<PurgePlan>;
  /**
   * Begins to purge a room, and goes on whether or not anybody waits. Asked again while it goes on, it answers with that one.
   * Throws `unknown-room`, `busy` while a join is under way, and `needs-force`.
   */
  request(request: PurgeRequest): Promise<PurgeStatus>;
  /** Resolves when a purge is done, or when the signal is aborted, with how it stands then. */
  wait(purgeId: string, signal: AbortSignal): Promise<PurgeStatus>;
  /** Throws `unknown-room` for a name that no purge has. */
  status(purgeId: string): Promise<PurgeStatus>;
  /** Of a room: the one that is under way, or was done last; none: it never was purged. */
  ofRoom(roomId: RoomId): Promise<readonly PurgeStatus[]>;
}
