/** What a room's state lacks when it could not be had whole: what was journalled of each, added up. */
import { type EventId, type ServerName } from '../matrix/identifiers.ts';

/** Ids of missing events that travel; all are in `missing_events`. */
export const MISSING_LISTED_MAX = 5;

/** Why an event of a state could not be had, or not be used. */
export type MissingWhy =
  /** Named by a resident, and given by nobody who was asked. */
  | 'not-delivered'
  /** It came, signed with a key that cannot be had: never verified means never believed. */
  | 'key-missing'
  | 'badly-signed'
  | 'malformed';

/** What a state was taken without, because nobody gave a copy that can be used. */
export interface UnusableEvents {
  /** The first few of them, with some of who gave such copies. */
  readonly listed: readonly UnusableEvent[];
  readonly count: number;
}

export interface UnusableEvent {
  readonly eventId: EventId;
  readonly why: MissingWhy;
  readonly from: readonly ServerName[];
}

/** What a state that could not be had whole lacks. The ids are whole in `missing_events`. */
export interface MissingEvents {
  /** The first few of them. */
  readonly listed: readonly { readonly eventId: EventId; readonly why: MissingWhy }[];
  readonly count: number;
  /** Events of the state that were had, and are not in it, because they cite missing ones. */
  readonly fell: number;
}

/** What the states of an earlier stay lack, on which a join that opens a new one stands. */
export interface LackingBefore extends MissingEvents {
  /** Milliseconds since the Unix epoch. */
  readonly since: number;
}

/** What the room's state lacks, added up over the states that it was made of. */
export interface Degraded {
  readonly missing: readonly { readonly eventId: EventId; readonly why: MissingWhy }[];
  readonly count: number;
  readonly fell: number;
  /** Of these, those that came later; once they have their places and nothing is lacking the room is whole. */
  readonly found: number;
  readonly since: number;
  /** How often it was looked for since. */
  readonly sought: number;
  /** No server is left that could tell the state: how much is missing is not known, and never found. */
  readonly isOrphaned?: true;
}

/** What a room's states lack, with those of `before`, when one more lacks something. */
export function degradedBy(before: Degraded | null, { listed, count, fell }: MissingEvents, at: number): Degraded {
  const known = new Set(before?.missing.map(({ eventId }) => eventId));
  const fresh = listed.filter(({ eventId }) => !known.has(eventId));
  return {
    missing: [...(before?.missing ?? []), ...fresh].slice(0, MISSING_LISTED_MAX),
    // States of one room lack much the same events: the greater count is nearer to the truth than the sum.
    count: Math.max(before?.count ?? 0, count),
    fell: Math.max(before?.fell ?? 0, fell),
    found: before?.found ?? 0,
    since: before?.since ?? at,
    sought: before?.sought ?? 0,
    ...(before?.isOrphaned === true ? { isOrphaned: true as const } : {}),
  };
}

/** What a room lacks whose state nobody is left to tell. */
export function orphanedBy(before: Degraded | null, at: number): Degraded {
  return { ...degradedBy(before, { listed: [], count: 0, fell: 0 }, at), isOrphaned: true };
}

/** What a stay lacks from its beginning. */
export function carried(lacking: LackingBefore | undefined): Degraded | null {
  return lacking === undefined ? null : degradedBy(null, lacking, lacking.since);
}
