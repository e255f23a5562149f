/**
 * Who may see an event, by the states around it.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-history-visibility
 */
import { type Json } from '../pdu.ts';

export type HistoryVisibility = 'world_readable' | 'shared' | 'invited' | 'joined';

/** What a `m.room.history_visibility` event says; `undefined`: there is none. */
export function historyVisibility(said: Json | undefined): HistoryVisibility {
  return said === 'world_readable' || said === 'invited' || said === 'joined' ? said : 'shared';
}

/** What the state before an event says, or the one after it. */
export interface SeenFrom {
  readonly visibility: HistoryVisibility;
  /** Of the user who asks; `null`: none; `undefined`: not known yet. */
  readonly membership: string | null | undefined;
}

/**
 * Whether a user may see an event; `undefined`: a membership that is not known decides. Of an event that changes the visibility, or the
 * membership of the user himself, the state after it counts as well, and the more open one decides.
 *
 * @param joinedSince whether the user was joined at any time after the event
 */
export function maySee(around: readonly SeenFrom[], joinedSince: boolean): boolean | undefined {
  const verdicts = around.map((seen) => maySeeFrom(seen, joinedSince));
  if (verdicts.includes(true)) return true;
  return verdicts.includes(undefined) ? undefined : false;
}

/** The numbered steps of the specification. */
function maySeeFrom({ visibility, membership }: SeenFrom, joinedSince: boolean): boolean | undefined {
  // 1.
  if (visibility === 'world_readable') return true;
  // 2.
  if (membership === 'join') return true;
  // 3.
  if (visibility === 'shared' && joinedSince) return true;
  // 4.
  if (visibility === 'invited') return membership === undefined ? undefined : membership === 'invite';
  // 5.
  return membership === undefined && visibility === 'joined' ? undefined : false;
}
