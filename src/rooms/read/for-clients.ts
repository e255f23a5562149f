/** Reading rooms as one of our users may see them (who-may-read.ts), waiting where memberships are not known (full-state.ts). */
import { maySee } from '../../matrix/client/history-visibility.ts';
import { type RoomId, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { type StateKey } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type MembershipFilter, openStateBodies } from '../../store/events/pdu-bodies.ts';
import { readJoinedRooms } from '../../store/journal/rooms.ts';
import { type Store } from '../../store/open-store.ts';
import { type ClientQuery, type ClientReads, type ClientRows, type MembersQuery } from '../client-contract.ts';
import { type NotReady, type StateEvent } from '../contract.ts';
import { RoomError } from '../error.ts';
import { inBatches } from '../in-batches.ts';
import { redactedPages, withoutTaken } from './as-redacted.ts';
import { type Backfill } from './backfill.ts';
import { eventAtTime } from './event-at-time.ts';
import { eventForClient } from './event-for-client.ts';
import { type FullStateWaits, type WaitContext, fullStateWaits, notReady } from './full-state.ts';
import { readContext, readMessages } from './messages.ts';
import { readRelations, readThreadRoots } from './relations.ts';
import { type SharedLooks, createSharedLooks } from './shared-looks.ts';
import { type TimeSearch } from './time-search.ts';
import { type Reader, type Readers, createReaders, visibilityAt } from './who-may-read.ts';

const MEMBER = 'm.room.member';
/** Rows of one page of an answer, as for operators. */
const PAGE_ROWS = 500;
/** How often what a user may read may change while he waits for it. */
const TURNS_MAX = 5;

interface Reading extends WaitContext {
  readonly waits: FullStateWaits;
  readonly looks: SharedLooks;
  readonly readers: Readers;
  readonly backfill: Backfill | null;
  readonly search: TimeSearch | null;
  /** How far a room is, one look for all whose wait ends in the same moment. */
  readonly toldOf: (roomId: RoomId) => Promise<NotReady>;
}

/** How other servers are asked for what was said before we came, and when. */
export interface AskedOthers {
  readonly backfill: Backfill;
  readonly search: TimeSearch;
}

/** Puts the reads of clients together; `others`: `null`: nobody is asked. One for a process: whoever waits for the same shares its looks. */
export function clientReads({ store, notifier, clock }: WaitContext, others: AskedOthers | null = null): ClientReads {
  const context = { store, notifier, clock };
  const toldOf = inBatches(
    (roomIds: readonly RoomId[]) => Promise.all(roomIds.map((roomId) => notReady(context, roomId))),
    (roomId) => roomId,
  );
  const looks = createSharedLooks(store);
  const reading: Reading = {
    ...context,
    backfill: others?.backfill ?? null,
    search: others?.search ?? null,
    waits: fullStateWaits(context),
    looks,
    readers: createReaders(looks),
    toldOf,
  };
  return {
    joinedRooms: (userId) => readJoinedRooms(store, userId),
    isJoined: async ({ roomId, userId }) => {
      const reader = await reading.readers.of(roomId, userId);
      return reader.may === 'now' && reader.isJoined;
    },
    state: async (query) => {
      const state = await wholeState(reading, query);
      return state === undefined ? toldOf(query.roomId) : stateRows(reading, query, state);
    },
    stateEvent: (query, place) => stateEvent(reading, query, place),
    // Thousands may wait in this one: nothing but the wait itself is held for each.
    members: (query) =>
      stateOfMembers(reading, query).then<ClientRows | NotReady>((state) =>
        state === undefined ? toldOf(query.roomId) : memberRows(reading, query, state),
      ),
    joinedMembers: async (query) => {
      const { roomId, userId } = query;
      const requireJoined = async (): Promise<void> => {
        const reader = await reading.readers.of(roomId, userId);
        if (reader.may === 'now' && reader.isJoined) return;
        throw new RoomError('forbidden', `${userId} is not in ${roomId}`);
      };
      await requireJoined();
      const state = await reading.waits.room(roomId, query);
      if (state === undefined) return toldOf(roomId);
      await requireJoined();
      return memberRows(reading, { ...query, membership: 'join', notMembership: null }, state);
    },
    event: (query, eventId) => eventForClient(reading, query, eventId),
    relations: async (query) => (await readRelations(reading, query)) ?? toldOf(query.roomId),
    threads: (query) => readThreadRoots(reading, query),
    eventAtTime: (query) => eventAtTime(reading, query),
    messages: async (query) => (await readMessages(reading, query)) ?? toldOf(query.roomId),
    context: async (query) => (await readContext(reading, query)) ?? toldOf(query.roomId),
  };
}

/** The state that a user may read, with all memberships; `undefined`: it is not known by the end of the wait. */
async function wholeState({ clock, readers, waits }: Reading, query: ClientQuery): Promise<SnapshotId | undefined> {
  const { roomId, userId, signal } = query;
  const until = clock.now() + query.waitMs;
  let reader = await readers.of(roomId, userId);
  for (let turn = 0; turn < TURNS_MAX; turn += 1) {
    const options = { signal, waitMs: Math.max(0, until - clock.now()) };
    const state =
      reader.may === 'now'
        ? await waits.room(roomId, options)
        : (await waits.event(roomId, reader.left.eventId, options))?.stateAfter;
    if (state === undefined) return undefined;
    // He may have been put out meanwhile, or let in again.
    const now = await readers.of(roomId, userId);
    if (isSame(reader, now)) return state;
    reader = now;
  }
  return undefined;
}

function isSame(one: Reader, other: Reader): boolean {
  if (one.may === 'now' || other.may === 'now') return one.may === other.may;
  return one.left.eventId === other.left.eventId;
}

/** Where a position is given, the state there, if the room's history then is for the user to see. */
function stateOfMembers(reading: Reading, query: MembersQuery): Promise<SnapshotId | undefined> {
  const { at } = query;
  return at === null ? wholeState(reading, query) : stateOfMembersAt(reading, query, at);
}

async function stateOfMembersAt(reading: Reading, query: MembersQuery, at: number): Promise<SnapshotId | undefined> {
  const { looks, readers } = reading;
  const { roomId, userId } = query;
  if (at > (await looks.head())) throw new RoomError('invalid', 'that position is still to come');
  const whole = await wholeState(reading, query);
  if (whole === undefined) return undefined;
  const reader = await readers.of(roomId, userId);
  if (reader.may === 'then' && at >= reader.left.position) return whole;
  const state = await looks.wholeStateAt({ roomId, position: at });
  if (state === undefined) return whole;
  const [own] = await looks.entriesAt({ roomId, state, places: [{ type: MEMBER, stateKey: userId }] });
  const around = { visibility: await visibilityAt(looks, roomId, state), membership: own?.membership ?? null };
  if (maySee([around], reader.may === 'then' || reader.isJoined) === true) return state;
  throw new RoomError('forbidden', `what ${roomId} was then is not for ${userId} to see`);
}

async function stateEvent(
  reading: Reading,
  query: ClientQuery,
  place: StateKey,
): Promise<({ readonly ready: true } & StateEvent) | NotReady> {
  const { store, looks, readers } = reading;
  const { roomId, userId } = query;
  const needsAll = place.type === MEMBER && !isOurs(place.stateKey, store.serverName);
  const state = needsAll ? await wholeState(reading, query) : knownState(await readers.of(roomId, userId));
  if (state === undefined) return reading.toldOf(roomId);
  const [entry] = await looks.entriesAt({ roomId, state, places: [place] });
  const body = entry && (await looks.body(entry.nid));
  if (body === undefined) throw new RoomError('unknown-event', `there is no such state in ${roomId}`);
  const { eventId, json } = body;
  return { ready: true, ...withoutTaken({ eventId, json }, await looks.redacted({ eventId, roomId, json })) };
}

/** Memberships of our own users are known from the first moment: there was none of us in the room before. */
function isOurs(stateKey: string, serverName: string): boolean {
  return stateKey.startsWith('@') && domainOf(stateKey as UserId) === serverName;
}

function knownState(reader: Reader): SnapshotId {
  return reader.may === 'now' ? reader.currentState : reader.left.stateAfter;
}

function stateRows({ store }: Reading, { roomId }: ClientQuery, state: SnapshotId): ClientRows {
  return {
    ready: true,
    name: `state ${roomId} ${state}`,
    open: () => openRows(store, roomId, state, null),
  };
}

function memberRows({ store }: Reading, query: Omit<MembersQuery, 'at'>, state: SnapshotId): ClientRows {
  const { roomId, membership, notMembership } = query;
  return {
    ready: true,
    name: `members ${roomId} ${state} ${membership ?? '*'} ${notMembership ?? '-'}`,
    open: () => openRows(store, roomId, state, { membership, notMembership }),
  };
}

async function openRows(
  store: Store,
  roomId: RoomId,
  state: SnapshotId,
  members: MembershipFilter | null,
): ReturnType<ClientRows['open']> {
  const { size, pages } = await openStateBodies(store, roomId, state, members, PAGE_ROWS);
  return { size, pages: redactedPages(store, roomId, pages) };
}
