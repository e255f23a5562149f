/**
 * Which gaps of a room are open at a time. Each costs residents a state, so that their number is bounded; parents are made up
 * for nothing, so that who has many makes way for who has few.
 */
import { type EventId, type ServerName } from '../matrix/identifiers.ts';
import { type OpenGap } from '../store/events/gaps.ts';

/** Gaps of a room open at a time. */
export const GAPS_OF_ROOM_MAX = 50;
/** And of those that events of one server have opened. */
export const GAPS_OF_ORIGIN_MAX = 5;
/** After so many attempts, some eight minutes, a place is had for long enough, should more servers want one than there are. */
const ATTEMPTS_OF_A_TURN = 4;

export interface GapPlaces {
  /** Gaps that may be opened, at most as many as are wanted. */
  readonly places: number;
  /** Those that are given up for them. */
  readonly givingWay: readonly OpenGap[];
}

/**
 * Places for gaps before events of `origin`. In a full room the most tried gap of whoever has most gives way: at once to a
 * server that has fewer by two at least, and after some attempts to one that has fewer. So places are shared out evenly between
 * few servers, and by turns between more than there are places for.
 */
export function gapPlaces(open: readonly OpenGap[], origin: ServerName, wanted: number): GapPlaces {
  const gaps = [...open];
  const givingWay: OpenGap[] = [];
  const own = gaps.filter((gap) => gap.origin === origin).length;
  const mayHave = Math.min(wanted, Math.max(0, GAPS_OF_ORIGIN_MAX - own));
  let places = 0;
  for (; places < mayHave; places++) {
    if (gaps.length + places < GAPS_OF_ROOM_MAX) continue;
    const victim = mostTriedOfMost(gaps, own + places);
    if (victim === undefined) break;
    givingWay.push(victim);
    gaps.splice(gaps.indexOf(victim), 1);
  }
  return { places, givingWay };
}

/** The gap that gives way to a server that has `own`; those of servers with as few stay. */
function mostTriedOfMost(gaps: readonly OpenGap[], own: number): OpenGap | undefined {
  const counts = new Map<ServerName, number>();
  for (const gap of gaps) counts.set(gap.origin, (counts.get(gap.origin) ?? 0) + 1);
  const countOf = ({ origin }: OpenGap): number => counts.get(origin) ?? 0;
  return gaps
    .filter((gap) => countOf(gap) > own + 1 || (countOf(gap) > own && gap.attempts >= ATTEMPTS_OF_A_TURN))
    .toSorted((a, b) => countOf(b) - countOf(a) || b.attempts - a.attempts || compareAge(a, b))[0];
}

function compareAge(a: OpenGap, b: OpenGap): number {
  return a.openedAt - b.openedAt || (a.eventId < b.eventId ? -1 : 1);
}

/** Why a gap was given up that had to make way, for people. */
export function gaveWay({ attempts }: OpenGap, to: ServerName): string {
  return `the room has as many gaps as it may, and this one made way for one before events of ${to}; attempts so far: ${attempts}`;
}

/** Gaps in the order in which they are tried: a first one of each server's, then a second, those tried least before others. */
export function byTurns<T extends OpenGap>(gaps: readonly T[]): T[] {
  const turns = new Map<EventId, number>();
  const counts = new Map<ServerName, number>();
  const inOrder = gaps.toSorted((a, b) => a.attempts - b.attempts || compareAge(a, b));
  for (const { eventId, origin } of inOrder) {
    const turn = counts.get(origin) ?? 0;
    counts.set(origin, turn + 1);
    turns.set(eventId, turn);
  }
  return inOrder.toSorted((a, b) => (turns.get(a.eventId) ?? 0) - (turns.get(b.eventId) ?? 0));
}
