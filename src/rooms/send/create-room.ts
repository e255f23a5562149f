/** Makes a room: its first events are composed, judged as all others are, and appended in one transaction that opens the stay. */
import { authEventKeys } from '../../matrix/auth/auth-events.ts';
import { firstEvents, objectionTo } from '../../matrix/client/first-events.ts';
import { type EventId, type RoomAlias, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../matrix/pdu.ts';
import { givenRoomId } from '../../matrix/compose.ts';
import { roomVersionRules } from '../../matrix/room-versions.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { invariant } from '../../invariant.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { insertPdus } from '../../store/events/pdus.ts';
import { append } from '../../store/journal/journal.ts';
import { createRoom as createRoomRow, openEpoch } from '../../store/journal/rooms.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { internStateKeys } from '../../store/snapshots/state-keys.ts';
import { listRoom } from '../../store/tables/listed-rooms.ts';
import { insertAlias } from '../../store/tables/room-aliases.ts';
import { type ClientRoomWish } from '../client-contract.ts';
import { RoomError } from '../error.ts';
import { prepareAdmission } from '../judge/prepare-admission.ts';
import { checkedOwn, composeOwn } from './compose-own.ts';
import { type SendContext, asOutgoing, requireAccepted } from './send-event.ts';

/** Of a room: each is judged, and appended with the others. */
const FIRST_EVENTS_MAX = 200;

export type AlsoWrite = (tx: Transaction, roomId: RoomId) => Promise<void>;

/**
 * @param alsoWrite what is to be durable with the room
 * @throws RoomError `alias-in-use`, `unsupported-version`, `invalid`, `malformed`, `too-large`; `forbidden` where the rules refuse one of the events
 */
export async function createRoom(
  context: SendContext,
  wish: ClientRoomWish,
  alsoWrite: AlsoWrite = () => Promise.resolve(),
): Promise<RoomId> {
  const rules = roomVersionRules(wish.roomVersion);
  if (rules === undefined) throw new RoomError('unsupported-version', `there is no room version ${wish.roomVersion}`);
  const objection = objectionTo(wish);
  if (objection !== undefined) throw new RoomError('invalid', objection);
  const drafts = firstEvents(wish, rules);
  if (drafts.length > FIRST_EVENTS_MAX) {
    throw new RoomError('invalid', `a room begins with ${FIRST_EVENTS_MAX} events at the most`);
  }

  let roomId = givenRoomId(rules, context.serverName, context.random);
  const state = new Map<string, { readonly eventId: EventId; readonly event: JsonObject }>();
  const events: Pdu[] = [];
  for (const draft of drafts) {
    const last = events.at(-1);
    const parents = last === undefined ? [] : [{ eventId: last.eventId, depth: last.depth, event: last.json }];
    const keys = authEventKeys({ ...draft, stateKey: draft.stateKey }, rules);
    const authEvents = keys.flatMap(({ type, stateKey }) => state.get(stateMapKey(type, stateKey)) ?? []);
    const pdu = composeOwn(context, draft, { roomId, rules, parents, authEvents });
    roomId ??= pdu.roomId;
    events.push(pdu);
    if (draft.stateKey !== undefined) {
      state.set(stateMapKey(draft.type, draft.stateKey), { eventId: pdu.eventId, event: pdu.json });
    }
  }
  const [create] = events;
  invariant(create !== undefined && roomId !== undefined, 'a room begins with its create event');
  await open(context, {
    roomId,
    create,
    events,
    creator: wish.creator,
    roomVersion: rules.version,
    alias: wish.alias,
    isListed: wish.isListed === true,
    alsoWrite,
  });
  return roomId;
}

interface NewRoom {
  readonly roomId: RoomId;
  readonly create: Pdu;
  readonly events: readonly Pdu[];
  readonly creator: UserId;
  readonly roomVersion: string;
  readonly alias: RoomAlias | undefined;
  readonly isListed: boolean;
  readonly alsoWrite: AlsoWrite;
}

async function open(
  context: SendContext,
  { roomId, create, events, creator, roomVersion, alias, isListed, alsoWrite }: NewRoom,
): Promise<void> {
  const { store, clock } = context;
  const eventIds = events.map(({ eventId }) => eventId);
  const places = events.flatMap(({ type, stateKey }) => (stateKey === undefined ? [] : [{ type, stateKey }]));
  await internStateKeys(store, places);
  await withTransaction(store, async (tx) => {
    await insertPdus(tx, events.map(checkedOwn));
    const room = await openEpoch(tx, await createRoomRow(tx, roomId, roomVersion));
    const { admissions, entries } = await prepareAdmission(tx, room, eventIds);
    for (const eventId of eventIds) {
      const ofEvent = entries.filter((entry) => 'eventId' in entry && entry.eventId === eventId);
      requireAccepted(admissions.get(eventId), ofEvent);
    }
    const at = clock.now();
    const created: ResyncEvent = {
      type: 'RoomCreated',
      createEventId: create.eventId,
      userId: creator,
      roomVersion,
      at,
    };
    if (alias !== undefined && !(await insertAlias(tx, { alias, roomId, creator, createdAt: at }))) {
      throw new RoomError('alias-in-use', `${alias} means another room already`);
    }
    if (isListed) await listRoom(tx, roomId, at);
    await alsoWrite(tx, roomId);
    await append(tx, room, [created, ...entries.map(asOutgoing)]);
  });
}
