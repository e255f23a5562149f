/**
 * One look: all that a user's client has missed since its token, read in one snapshot of the database. So all parts fit together,
 * no lock is taken, and nobody is waited for.
 */
import { accountDataBetween } from '../accounts/account-data.ts';
import { TELLING, strippedEvent } from '../matrix/client/stripped-state.ts';
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type SyncToken, formatRoomPoint, formatSyncToken } from '../matrix/client/tokens.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { readBundles } from '../store/events/bundles.ts';
import { readRedacted } from '../store/events/redactions.ts';
import { type RelatedParent } from '../store/events/relations.ts';
import { readNumberedUpTo, readResyncs, readSeenRooms } from '../store/journal/seen-by-clients.ts';
import { readPurgedRooms } from '../store/journal/tombstones.ts';
import { type SeenPdu } from '../store/journal/visible-events.ts';
import { type Transaction } from '../store/open-store.ts';
import { type StateRead, readStates } from '../store/snapshots/many-snapshots.ts';
import { readPlaces, readStateKeys } from '../store/snapshots/state-keys.ts';
import { readAccountData } from '../store/tables/account-data.ts';
import { readTransactionIds } from '../store/tables/client-transactions.ts';
import { readKeyCounts } from '../store/tables/device-keys.ts';
import { readToDevice } from '../store/tables/to-device.ts';
import { type RoomPart, type SyncAnswer, type SyncRequest } from './contract.ts';
import { SyncError } from './error.ts';
import { type SyncFilter, passes, passesRoom } from '../matrix/client/filter.ts';
import { type SpokenSpan, readSpokenIn, readStateParts } from './read-rooms.ts';
import { OUT, readOutsideParts } from './outside-rooms.ts';
import { type RoomSpan, type RoomsQuery, readSpans } from './read-spans.ts';
import { type RestOfState } from './rest-of-states.ts';
import { readEphemeral } from './ephemeral.ts';
import { readDeviceLists } from './device-lists.ts';
import { type CountedEvents } from './counted-events.ts';
import { type SentMembers } from './sent-members.ts';
import { readVisible, stateEvent, timelineEvent } from './show-events.ts';
import { readHeroes } from './summaries.ts';
import { readUnread } from './unread.ts';

export interface LookQuery {
  readonly request: SyncRequest;
  readonly filter: SyncFilter;
  /** `null`: the client knows nothing. */
  readonly since: SyncToken | null;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  readonly sent: SentMembers;
  readonly counted: CountedEvents;
}

export interface Look {
  readonly answer: Omit<SyncAnswer, 'restOfStates' | 'presence'>;
  /** Up to where all is given. */
  readonly upTo: number;
  /** What of the states it lacks. */
  readonly rest: readonly RestOfState[];
  /** Rooms whose appends may bring something. */
  readonly roomIds: readonly RoomId[];
  readonly isEmpty: boolean;
}

/** State events that a response holds in memory, of all rooms together; more is read while it is sent, and of invitations left out. */
const AT_ONCE_EVENTS = 20_000;
const AT_ONCE_BYTES = 16 * 1024 * 1024;
/** Messages to the device that a response holds; more comes with the next one, at once. */
const TO_DEVICE_AT_ONCE = { limit: 100, bytesMax: 2 * 1024 * 1024 };

/** Looks once. The transaction has not read anything yet. */
export async function look(tx: Transaction, query: LookQuery): Promise<Look> {
  await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
  const { request, filter, since } = query;
  const { userId } = request;
  const { head, rooms } = await readSeenRooms(tx, userId, since?.position ?? 0);
  if (since !== null && since.position > head) throw new SyncError('invalid', 'since: a token from the future');
  const ignored = await readIgnored(tx, userId);
  const { isFullState, isStateAfter } = request;
  const newest: RoomsQuery = { userId, since, head, filter, isFullState, isStateAfter, ignored };
  const { spans, between, upTo } = await readSpans(tx, rooms, newest);
  const roomsQuery: RoomsQuery = { ...newest, head: upTo };
  const shown = spans.filter(({ section }) => section === 'join' || section === 'leave');
  const asked = spans.filter(({ section }) => section === 'invite' || section === 'knock');

  const accountData = await readAccountParts(tx, userId, { since: since?.position ?? 0, head: upTo }, shown);
  const stripped = await readStripped(tx, asked, userId);
  const { parts, owedSince, rest } = await readRoomParts(tx, shown, roomsQuery, query, accountData.ofRooms);
  const purged = await readPurgedParts(tx, roomsQuery, parts);
  const keys = await readKeyCounts(tx, request);
  const toDeviceSince = since?.toDevice ?? since?.position ?? 0;
  const toDevice = await readToDevice(tx, request, { since: toDeviceSince, upTo }, TO_DEVICE_AT_ONCE);
  const messages = toDevice.messages.map(({ sender, type, content }) => ({ sender, type, content }));
  const deviceLists =
    since === null ? null : await readDeviceLists(tx, userId, between, { since: since.position, upTo });
  const partsOf = (section: RoomSpan['section']): ReadonlyMap<RoomId, RoomPart> =>
    new Map(
      shown.flatMap((span) => {
        const part = span.section === section ? parts.get(span.roomId) : undefined;
        return part === undefined ? [] : [[span.roomId, part] as const];
      }),
    );
  const invitesOf = (section: RoomSpan['section']) =>
    new Map(
      asked.flatMap(({ roomId, section: of }) => {
        const { events = [], inviter } = stripped.get(roomId) ?? {};
        return of === section && (inviter === undefined || !ignored.includes(inviter))
          ? [[roomId, events] as const]
          : [];
      }),
    );
  const outside = await readOutsideParts(tx, roomsQuery);
  /** What of the rooms is said by what is known of them outside, which counts where there is both. */
  const without = <Part>(parts: ReadonlyMap<RoomId, Part>) =>
    new Map([...parts].filter(([roomId]) => !outside.roomIds.has(roomId)));
  const answer: Look['answer'] = {
    nextBatch: formatSyncToken({
      position: upTo,
      owedSince,
      toDevice: toDevice.isCut ? (toDevice.messages.at(-1)?.position ?? null) : null,
    }),
    joined: without(partsOf('join')),
    left: new Map([...without(new Map([...partsOf('leave'), ...purged])), ...outside.left]),
    invited: new Map([...invitesOf('invite'), ...outside.invited]),
    knocked: new Map([...invitesOf('knock'), ...outside.knocked]),
    accountData: accountData.ofUser.filter((event) => passes(filter.accountData, event)),
    toDevice: messages,
    deviceLists,
    oneTimeKeys: keys.oneTimeKeys,
    unusedFallbackKeys: keys.unusedFallbackKeys,
  };
  const { joined, left, invited, knocked } = answer;
  const told = [answer.accountData, messages, deviceLists?.changed ?? [], deviceLists?.left ?? []];
  return {
    answer,
    upTo,
    rest,
    roomIds: rooms.flatMap(({ roomId, membership }) => (membership === 'join' ? [roomId] : [])),
    isEmpty:
      upTo === head &&
      joined.size + left.size + invited.size + knocked.size === 0 &&
      told.every((list) => list.length === 0),
  };
}

/** Of a room that was purged nothing is left to tell but that the user is out of it, unless he is in its next life. */
async function readPurgedParts(
  tx: Transaction,
  { userId, since, head, filter }: RoomsQuery,
  told: ReadonlyMap<RoomId, RoomPart>,
): Promise<ReadonlyMap<RoomId, RoomPart>> {
  if (since === null) return new Map();
  const roomIds = await readPurgedRooms(tx, userId, { since: since.position, upTo: head });
  return new Map(
    roomIds.flatMap((roomId) =>
      told.has(roomId) || !passesRoom(filter.rooms, roomId) ? [] : [[roomId, OUT] as const],
    ),
  );
}

async function readIgnored(tx: Transaction, userId: UserId): Promise<UserId[]> {
  const content = await readAccountData(tx, userId, null, 'm.ignored_user_list');
  const ignored = content?.['ignored_users'];
  return isJsonObject(ignored) ? (Object.keys(ignored).filter((user) => !user.includes('\0')) as UserId[]) : [];
}

interface AccountParts {
  readonly ofUser: readonly JsonObject[];
  readonly ofRooms: ReadonlyMap<RoomId, readonly JsonObject[]>;
}

/** What is new, and of rooms that are new to the client all that there is. */
async function readAccountParts(
  tx: Transaction,
  userId: UserId,
  { since, head }: { readonly since: number; readonly head: number },
  spans: readonly RoomSpan[],
): Promise<AccountParts> {
  const rows = await accountDataBetween(tx, userId, { since, upTo: head });
  const isNew = new Set(spans.flatMap((span) => (span.isNew ? [span.roomId] : [])));
  const older =
    since > 0 && isNew.size > 0
      ? (await accountDataBetween(tx, userId, { since: 0, upTo: since })).filter(
          ({ roomId }) => roomId !== null && isNew.has(roomId),
        )
      : [];
  const ofRooms = new Map<RoomId, JsonObject[]>();
  for (const { roomId, type, content } of [...older, ...rows]) {
    if (roomId !== null) ofRooms.set(roomId, [...(ofRooms.get(roomId) ?? []), { type, content }]);
  }
  return { ofUser: rows.flatMap(({ roomId, type, content }) => (roomId === null ? [{ type, content }] : [])), ofRooms };
}

interface Stripped {
  readonly events: readonly JsonObject[];
  readonly inviter: UserId | undefined;
}

async function readStripped(
  tx: Transaction,
  spans: readonly RoomSpan[],
  userId: UserId,
): Promise<ReadonlyMap<RoomId, Stripped>> {
  if (spans.length === 0) return new Map();
  const own = { type: 'm.room.member', stateKey: userId };
  const keys = await readStateKeys(tx, [...TELLING, own]);
  const ownKey = keys.get(stateMapKey(own.type, own.stateKey));
  const reads = spans.map(({ roomId, now }): StateRead => ({
    roomId,
    state: now,
    selection: { keys: new Set(keys.values()) },
  }));
  const states = await readStates(tx, reads);
  // Who invited him to all of them, and then as much as there is room for of what the rooms are called.
  const ofOwn = states.flatMap((places) => (ownKey === undefined ? [] : (places.get(ownKey) ?? [])));
  const all = new Set([...ofOwn, ...states.flatMap((places) => [...places.values()])]);
  const bodies = await readNumberedUpTo(tx, [...all], AT_ONCE_BYTES);
  const redacted = await readRedacted(
    tx,
    spans.flatMap(({ roomId }, i) =>
      [...(states[i]?.values() ?? [])].flatMap((nid) => {
        const body = bodies.get(nid);
        return body === undefined ? [] : [{ eventId: body.eventId, json: body.json, roomId }];
      }),
    ),
  );
  return new Map(
    spans.map(({ roomId }, i) => {
      const places = states[i] ?? new Map<number, number>();
      const events = [...places.values()].flatMap((nid) => {
        const body = bodies.get(nid);
        return body === undefined ? [] : [strippedEvent(redacted.get(body.eventId)?.json ?? body.json)];
      });
      const invite = ownKey === undefined ? undefined : bodies.get(places.get(ownKey) ?? -1);
      const inviter = invite && (JSON.parse(invite.json) as JsonObject)['sender'];
      return [roomId, { events, inviter: typeof inviter === 'string' ? (inviter as UserId) : undefined }];
    }),
  );
}

interface SeenSpan extends SpokenSpan {
  readonly timeline: readonly SeenPdu[];
  readonly isCut: boolean;
}

interface ReadRooms {
  readonly parts: ReadonlyMap<RoomId, RoomPart>;
  readonly owedSince: number | null;
  readonly rest: readonly RestOfState[];
}

async function readRoomParts(
  tx: Transaction,
  spans: readonly RoomSpan[],
  roomsQuery: RoomsQuery,
  { request, filter, since, now, sent, counted }: LookQuery,
  accountData: AccountParts['ofRooms'],
): Promise<ReadRooms> {
  const { userId, deviceId, isFullState } = request;
  const { head } = roomsQuery;
  const isOwed = since?.owedSince != null;
  const joined = spans.filter(({ section }) => section === 'join');
  const ephemeral = await readEphemeral(
    tx,
    joined.map(({ roomId, isNew }) => ({ roomId, after: isNew ? 0 : (since?.position ?? 0) })),
    { userId, upTo: head, filter: filter.ephemeral, ignored: roomsQuery.ignored },
  );
  // Nothing has to be looked up of a room in which nothing has happened.
  const active = spans.filter(
    ({ room, roomId, section, isNew, after }) =>
      isNew ||
      section === 'leave' ||
      isFullState ||
      isOwed ||
      room.newest > after ||
      room.state !== room.stateThen ||
      room.partial !== room.wasPartial ||
      room.readAt > (since?.position ?? 0) ||
      accountData.has(roomId) ||
      ephemeral.has(roomId),
  );
  const read = await readSpokenIn(tx, active, roomsQuery);
  const visible = await readVisible(tx, active, read.events, userId);
  const changed = active.filter(({ isNew, room }) => isNew || isFullState || room.state !== room.stateThen);
  const summarised = new Set(changed.map(({ roomId }) => roomId));
  const heroes = await readHeroes(tx, changed, userId);
  const { limit } = filter.timeline;
  const spoken = active.map((span): SeenSpan => {
    const seen = (visible.get(span.roomId) ?? []).filter(({ json }) => isWanted(filter, json));
    const timeline = limit === 0 ? [] : seen.slice(-limit);
    const isCut = read.cut.has(span.roomId) || (read.events.get(span.roomId)?.length ?? 0) > limit;
    return { ...span, timeline, heroes: heroes.get(span.roomId) ?? [], isCut };
  });
  const device = `${userId} ${deviceId}`;
  sent.begin(device, since?.position ?? null);
  for (const { isNew, section, roomId } of spoken) if (isNew || section === 'leave') sent.forgetRoom(device, roomId);
  const { includeRedundantMembers } = filter.state;
  // Whoever leaves a room drops what he knows of it, and joins it by another event.
  const hasMember = ({ roomId, room }: RoomSpan, key: number, nid: number): boolean =>
    !includeRedundantMembers && sent.has(device, roomId, key, nid, room.memberShownAt ?? 0);
  const states = await readStateParts(tx, spoken, roomsQuery, hasMember);
  const places = await readPlaces(
    tx,
    [...states.values()].flatMap(({ removed }) => [...removed]),
  );
  const toTell = (['join', 'leave'] as const).flatMap((section) =>
    spoken.flatMap(({ roomId, section: of }) => {
      const events = of === section && passesRoom(filter.state, roomId) ? states.get(roomId)?.events : undefined;
      return events === undefined ? [] : [{ roomId, nids: Float64Array.from(events.values()) }];
    }),
  );
  const bodies = await readNumberedUpTo(tx, firstOf(toTell, AT_ONCE_EVENTS), AT_ONCE_BYTES);
  const rest = toTell.flatMap(({ roomId, nids }): RestOfState[] => {
    const left = nids.filter((nid) => !bodies.has(nid));
    return left.length === 0 ? [] : [{ roomId, nids: left }];
  });
  const restIn = new Set(rest.map(({ roomId }) => roomId));
  const redacted = await readRedacted(
    tx,
    spoken.flatMap(({ roomId, timeline }) => [
      ...timeline.flatMap((pdu) => [pdu, ...(pdu.replaced === null ? [] : [{ ...pdu.replaced, roomId }])]),
      ...[...(states.get(roomId)?.events.values() ?? [])].flatMap((nid) => {
        const body = bodies.get(nid);
        return body === undefined ? [] : [{ ...body, roomId }];
      }),
    ]),
  );
  const resyncs = await readResyncs(
    tx,
    spoken.flatMap(({ roomId, section }) => (section === 'join' ? [roomId] : [])),
  );

  const unread = await readUnread(tx, spoken, roomsQuery, counted);
  const transactions = await readTransactionIds(
    tx,
    userId,
    deviceId,
    spoken.flatMap(({ timeline }) => timeline.flatMap(({ sender, eventId }) => (sender === userId ? [eventId] : []))),
  );

  const relations = await readBundles(
    tx,
    spoken.flatMap((span) => parentsIn(span, userId)),
    userId,
    now,
  );

  const owed: number[] = [];
  const parts = new Map<RoomId, RoomPart>();
  for (const span of spoken) {
    const { roomId, room, timeline, isNew, section, isCut } = span;
    const state = states.get(roomId);
    if (state === undefined) continue;
    const resync = resyncs.get(roomId);
    for (const { key, shownAt } of timeline) if (key !== null && state.owed.has(key)) owed.push(shownAt - 1);
    const passing = passesRoom(filter.state, roomId) ? [...state.events] : [];
    const told = passing.flatMap(([key, nid]) => {
      const body = bodies.get(nid);
      const event = body && stateEvent(body, roomId, redacted);
      return event !== undefined && passes(filter.state, event) ? [{ key, nid, event }] : [];
    });
    // With `use_state_after` a client takes nothing of the state from the timeline.
    for (const { key, nid } of roomsQuery.isStateAfter ? told : [...told, ...timeline]) {
      if (key !== null && key % 2 === 1) sent.add(device, roomId, key, { nid, position: head });
    }
    for (const key of state.removed) if (key % 2 === 1) sent.addEmpty(device, roomId, key, head);
    const part: RoomPart = {
      timeline: timeline.map((pdu) =>
        timelineEvent(pdu, now, {
          transactionId: transactions.get(pdu.eventId),
          redacted,
          relations: relations.get(pdu.eventId),
        }),
      ),
      isLimited: isCut || (isNew && section === 'join' && !beginsRoom(timeline)),
      prevBatch: timeline[0] === undefined ? null : prevBatchOf(timeline[0]),
      state: told.map(({ event }) => event),
      removed: [...state.removed].flatMap((key) => places.get(key) ?? []),
      accountData: (accountData.get(roomId) ?? []).filter((event) => passes(filter.roomAccountData, event)),
      ephemeral: ephemeral.get(roomId) ?? [],
      summary:
        section === 'join' && summarised.has(roomId)
          ? { heroes: heroes.get(roomId) ?? null, joined: room.joined, invited: room.invited }
          : null,
      unread: unread.get(roomId) ?? null,
      resync: resync?.degraded != null || room.partial ? (resync ?? null) : null,
    };
    const tells =
      isNew ||
      section === 'leave' ||
      isFullState ||
      room.partial !== room.wasPartial ||
      (section === 'join' && room.readAt > (since?.position ?? 0)) ||
      part.timeline.length > 0 ||
      part.state.length > 0 ||
      restIn.has(roomId) ||
      part.removed.length > 0 ||
      part.accountData.length > 0 ||
      part.ephemeral.length > 0 ||
      (isCut && (limit === 0 || read.cut.has(roomId)));
    if (tells) parts.set(roomId, part);
  }
  return { parts, owedSince: owed.length === 0 ? null : Math.min(...owed), rest };
}

/** Events beside which it is summed up what relates to them, as far as the user's response goes. */
function parentsIn({ roomId, room, timeline, upTo }: SeenSpan, userId: UserId): RelatedParent[] {
  const joinedSince = room.membership === 'join';
  return timeline.map(({ eventId }) => ({ eventId, roomId, userId, upTo, joinedSince }));
}

/** The first numbers of all, so many at the most. */
function firstOf(states: readonly RestOfState[], count: number): number[] {
  const first: number[] = [];
  for (const { nids } of states) {
    if (first.length >= count) break;
    for (const nid of nids.subarray(0, count - first.length)) first.push(nid);
  }
  return first;
}

/** Before the event: from there `/messages` goes on. */
function prevBatchOf({ shownAt }: SeenPdu): string {
  return formatRoomPoint({ kind: 'timeline', position: shownAt - 1 });
}

/** What SQL does not filter by. */
function isWanted({ timeline }: SyncFilter, json: string): boolean {
  return timeline.containsUrl === null || passes(timeline, JSON.parse(json) as JsonObject);
}

function beginsRoom([first]: readonly SeenPdu[]): boolean {
  return first !== undefined && (JSON.parse(first.json) as JsonObject)['type'] === 'm.room.create';
}
