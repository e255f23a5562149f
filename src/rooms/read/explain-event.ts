/**
 * The story of one event: when it came and from whom, by what it was judged, what changed and why, back to a resident's answer,
 * and what depends on it. Also of events that are not held: missing ones, gaps, those that wait or were given up.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readParents } from '../../store/events/anchors.ts';
import {
  findRoomOfEvent,
  readDependants,
  readEntriesAbout,
  readEntriesAt,
  readEventFacts,
  readLastEntry,
  readMissingEvent,
  readStagedCopies,
} from '../../store/events/event-story.ts';
import { readGaps } from '../../store/events/gaps.ts';
import { type StoredPdu, readPdus } from '../../store/events/pdus.ts';
import { type RecordedEntry } from '../../store/journal/journal-pages.ts';
import { readRoom } from '../../store/journal/rooms.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type RoomsContext } from '../context.ts';
import { type EventStory, type Witness } from '../contract.ts';
import { RoomError } from '../error.ts';
import { type StoryFacts, tellStory } from './tell-story.ts';
import { withTurned, witnessOf } from './witnesses.ts';

/** Steps back from a change to what it came of. */
const CAUSES_MAX = 20;
/** What the journal says of one event; each of its changes is an entry. */
const HISTORY_MAX = 50;

type Context = Pick<RoomsContext, 'store'>;

/** Throws `RoomError` `unknown-event` where nothing is known under this id. */
export async function explainEvent(context: Context, eventId: EventId): Promise<EventStory> {
  const { store } = context;
  const roomId = await findRoomOfEvent(store, eventId);
  if (roomId === undefined) {
    throw new RoomError('unknown-event', `${eventId}: no room of this server has had it, cites it or waits for it`);
  }
  const [facts, [pdu], about, parents, copies, gaps, missing, dependants] = await Promise.all([
    readEventFacts(store, roomId, eventId),
    readPdus(store, roomId, [eventId]),
    readEntriesAbout(store, roomId, [eventId]),
    readParents(store, roomId, [eventId]),
    readStagedCopies(store, roomId, eventId),
    readGaps(store, roomId),
    readMissingEvent(store, roomId, eventId),
    readDependants(store, roomId, eventId),
  ]);
  const history = await withTurned(store, roomId, about.slice(-HISTORY_MAX));
  const causes = await withTurned(store, roomId, await causesOf(context, roomId, about));
  const known: StoryFacts = {
    ...{ eventId, roomId, pdu, facts, history, causes, copies, missing, dependants },
    gap: gaps.find((gap) => gap.eventId === eventId),
    anchor: parents.get(eventId)?.isAnchor === true ? parents.get(eventId) : undefined,
    judgedBy: pdu === undefined ? [] : await judgedBy(context, roomId, pdu, facts?.authState ?? null),
    inCurrentState: pdu === undefined ? undefined : await placeNow(context, roomId, pdu),
  };
  return tellStory(known);
}

/** What the verdict was made by; of an outlier the events that it cites itself. */
async function judgedBy(
  { store }: Context,
  roomId: RoomId,
  { authEvents, sender }: StoredPdu,
  authState: readonly EventId[] | null,
): Promise<readonly Witness[]> {
  const pdus = await readPdus(store, roomId, authState ?? authEvents);
  return pdus.map((pdu) => witnessOf(pdu, sender));
}

/**
 * The last change, and from it back: each entry says by which other one it was due, the first of them came of a state that was
 * given, or assumed.
 */
async function causesOf(
  { store }: Context,
  roomId: RoomId,
  about: readonly RecordedEntry[],
): Promise<readonly RecordedEntry[]> {
  const chain: RecordedEntry[] = [];
  let last = about.findLast(({ event }) => event.type === 'VerdictChanged' || event.type === 'EventUnPartialStated');
  while (last !== undefined && 'cause' in last.event && chain.length < CAUSES_MAX) {
    const [next] = await readEntriesAt(store, [last.event.cause]);
    // A cause is older than what came of it; anything else is a fault, and no reason to go round.
    if (next === undefined || next.position >= last.position) break;
    chain.push(next);
    last = next;
  }
  if (last?.event.type !== 'EventUnPartialStated') return chain;
  const types = ['StateFetched', 'FullStateJoined', 'GapClosed', 'GapsAssumed'] as const;
  const given = await readLastEntry(store, roomId, types, last.position);
  return given === undefined ? chain : [...chain, given];
}

/** What stands at the event's place in the current state; `undefined`: it has no place there, or the room has no state. */
async function placeNow({ store }: Context, roomId: RoomId, pdu: StoredPdu): Promise<EventId | null | undefined> {
  const { type, stateKey } = pdu;
  const state: SnapshotId | null = (await readRoom(store, roomId))?.currentState ?? null;
  if (stateKey === null || state === null) return undefined;
  const entries = await readSnapshot(store, roomId, state, { keys: [{ type, stateKey }] });
  return entries.find((entry) => entry.type === type && entry.stateKey === stateKey)?.eventId ?? null;
}
