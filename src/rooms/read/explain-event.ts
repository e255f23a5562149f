/**
 * The story of one event: when it came and from whom, by what it was judged, what changed and why, back to a resident's answer,
 * and what depends on it. Also of events that are not held: missing ones, gaps, those that wait or were given up.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { authEventsAmong } from '../../matrix/auth/auth-events.ts';
import { type EntryType } from '../../resync/entries.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { invariant } from '../../invariant.ts';
import { readParents } from '../../store/events/anchors.ts';
import { readEventStates } from '../../store/events/event-states.ts';
import {
  findRoomOfEvent,
  readDependants,
  readEntriesAbout,
  readEntriesAt,
  readEventFacts,
  readLastEntry,
  readMissingEvent,
  readStagedCopies,
  readStatesChanged,
} from '../../store/events/event-story.ts';
import { readGaps } from '../../store/events/gaps.ts';
import { type StoredPdu, readPdus } from '../../store/events/pdus.ts';
import { type RecordedEntry } from '../../store/journal/journal-pages.ts';
import { readRoom } from '../../store/journal/rooms.ts';
import { type Store } from '../../store/open-store.ts';
import { isStored } from '../../store/snapshots/chunks.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type RoomsContext } from '../context.ts';
import { type EventStory, type Witness } from '../contract.ts';
import { RoomError } from '../error.ts';
import { authStateOf } from '../judge/auth-state.ts';
import { loadPdus, rulesOfJoined } from '../judge/load-pdus.ts';
import { type StoryFacts, tellStory } from './tell-story.ts';
import { type Judgement, withTurned, witnessOf } from './witnesses.ts';

/** Steps back from a change to what it came of. */
const CAUSES_MAX = 20;
/** What the journal says of one event; each of its changes is an entry. */
const HISTORY_MAX = 50;

/** What is due to something else. */
const CHANGES: ReadonlySet<EntryType> = new Set(['EventUnPartialStated', 'VerdictChanged', 'StatesChanged'] as const);

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
  const moved = await statesOfEvent(store, roomId, eventId);
  const story = [...about, ...moved.entries].sort((a, b) => a.position - b.position);
  const history = await withTurned(store, roomId, story.slice(-HISTORY_MAX), moved.judgements);
  const causes = await withTurned(store, roomId, await causesOf(context, roomId, story));
  const known: StoryFacts = {
    ...{ eventId, roomId, pdu, facts, history, causes, copies, missing, dependants },
    gap: gaps.find((gap) => gap.eventId === eventId),
    anchor: parents.get(eventId)?.isAnchor === true ? parents.get(eventId) : undefined,
    judgedBy: pdu === undefined ? [] : await judgedBy(context, roomId, pdu, facts?.authState ?? moved.judgedBy),
    inCurrentState: pdu === undefined ? undefined : await placeNow(context, roomId, pdu),
  };
  return tellStory(known);
}

interface StatesOfEvent {
  /** By which the event has got other states and kept its verdict. */
  readonly entries: readonly RecordedEntry[];
  /** What it was judged by since each of them, as far as these states are kept. */
  readonly judgements: readonly Judgement[];
  /** What it is judged by now; `null`: it is no event of the timeline. */
  readonly judgedBy: readonly EventId[] | null;
}

/** By what an event of the timeline is judged, read off the states before it: that of today, and those of its changes. */
async function statesOfEvent(store: Store, roomId: RoomId, eventId: EventId): Promise<StatesOfEvent> {
  const state = (await readEventStates(store, roomId, [eventId])).get(eventId);
  const room = state === undefined ? undefined : await readRoom(store, roomId);
  if (state === undefined || room === undefined) return { entries: [], judgements: [], judgedBy: null };
  const rules = rulesOfJoined(room.roomVersion);
  const event = (await loadPdus(store, roomId, rules, [eventId])).pdus.get(eventId);
  invariant(event !== undefined, `${eventId} of the timeline has a body`);
  const { position, stateBefore } = state;
  const entries = await readStatesChanged(store, roomId, eventId, { since: position, limit: HISTORY_MAX });
  const before = new Map<SnapshotId, readonly EventId[]>();
  const look = async (snapshot: SnapshotId): Promise<readonly EventId[]> => {
    const authState = authEventsAmong(await authStateOf(store, roomId, rules, snapshot, event), event, rules);
    before.set(snapshot, authState);
    return authState;
  };
  const judgedBy = await look(stateBefore);
  const judgements: Judgement[] = [];
  for (const { position: at, event: change } of entries) {
    if (change.type !== 'StatesChanged') continue;
    const snapshot = change.stateBefore;
    // A state that nothing stands on any more is collected after a day.
    if (!before.has(snapshot) && !(await isStored(store, roomId, snapshot))) continue;
    judgements.push({ position: at, eventId, authState: before.get(snapshot) ?? (await look(snapshot)) });
  }
  return { entries, judgements, judgedBy };
}

/** What an event is judged by, in words; an outlier by the events that it cites itself. */
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
  story: readonly RecordedEntry[],
): Promise<readonly RecordedEntry[]> {
  const chain: RecordedEntry[] = [];
  let last = story.findLast(({ event }) => CHANGES.has(event.type));
  while (last !== undefined && 'cause' in last.event && chain.length < CAUSES_MAX) {
    const [next] = await readEntriesAt(store, [last.event.cause]);
    // A cause is older than what came of it; anything else is a fault, and no reason to go round.
    if (next === undefined || next.position >= last.position) break;
    chain.push(next);
    last = next;
  }
  if (last?.event.type !== 'EventUnPartialStated') return chain;
  const types = ['StateFetched', 'FullStateJoined', 'GapClosed', 'GapsAssumed', 'RoomOrphaned'] as const;
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
