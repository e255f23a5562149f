/**
 * What is looked at before a transaction is answered: the form of each PDU, its size and id, whether its servers signed it
 * at all, the room's ACL, and whether the room is ours. Each is judged by itself; whatever asks the network, or other
 * events, comes later.
 *
 * A server that has too much waiting here, in all or in one room, is told to come back before anything is stored, and keeps what it
 * has. Senders may leave our whole server alone for minutes then, so it is told so for what it sent itself only: a room's share is
 * divided evenly between the servers of which events wait there, once it is used up, and whoever has less than his part is taken in,
 * however many others have. Those that are not believed to be in the room have a share of their own, since names are free.
 *
 * What a transaction holds of other rooms waits with it. An error for the one PDU would lose that for good, since senders do not repeat
 * a transaction that was answered; to take the others in and say 429 all the same would spare them nothing, since it is the sender's
 * queue that stands still, and would have each repetition stored and judged once more. So before a 429 nothing is stored.
 */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { roomVersionRules } from '../../matrix/room-versions.ts';
import { type Sql } from '../../store/open-store.ts';
import { type PduToStage } from '../../store/tables/staged-pdus.ts';
import { type PushedRoom, readPushedRooms, readStagedBeside } from '../../store/tables/staged-reads.ts';
import { type ScreenedEvent } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { type PduResults, type ReceivedTransaction } from '../contract.ts';
import { type AclReader, createAclReader } from './server-acl.ts';

/** Events of one server that wait here, but for a gap; it sends 50 at a time, and a turn takes as many. */
const STAGED_OF_ORIGIN_MAX = 2_000;
/** Whatever they wait for, in all rooms. */
const STAGED_OF_ORIGIN_AT_ALL_MAX = 20_000;
/** Events of one room that wait here, for a gap too: more than a busy room says in an hour, while its gap is closed. */
const STAGED_OF_ROOM_MAX = 5_000;
/** Of these, what one server may have however many others have some: all that it says in such an hour. */
const STAGED_OF_ORIGIN_IN_ROOM_MIN = 200;
/** Both, for servers that are not believed to be in the room: a quarter of what there is beside, and one transaction. */
const STAGED_OF_OUTSIDERS_MAX = 1_250;
const STAGED_OF_OUTSIDER_MIN = 50;
/** Rows of a room that are counted: beyond these its servers have their parts anyway. */
const COUNTED_OF_ROOM_MAX = 20_000;

export type Screening =
  | {
      readonly outcome: 'screened';
      readonly results: PduResults;
      /** In the order they came. */
      readonly pdus: readonly PduToStage[];
      /** Rooms that are not ours. */
      readonly elsewhere: ReadonlySet<RoomId>;
    }
  /** The sender has its share of waiting events. */
  | { readonly outcome: 'limited' };

export interface Screen {
  screen(origin: ServerName, pdus: ReceivedTransaction['pdus'], signal: AbortSignal): Promise<Screening>;
  /** Whether the room's current state, as far as it is known, lets a server take part. */
  readonly isAllowed: AclReader;
}

/** The screen of one process, which remembers what ACLs say. */
export function createScreen({ store, verification }: Pick<RoomsContext, 'store' | 'verification'>): Screen {
  const isAllowed = createAclReader(store);

  /** Events of rooms that are ours, in the order they came. Of others nothing is said: without their version there is no id to say it by. */
  const screenByRoom = async (
    rooms: ReadonlyMap<RoomId, PushedRoom>,
    received: ReceivedTransaction['pdus'],
    signal: AbortSignal,
  ): Promise<{ readonly roomId: RoomId; readonly room: PushedRoom; readonly event: ScreenedEvent }[]> => {
    const screened = new Map<Uint8Array, { roomId: RoomId; room: PushedRoom; event: ScreenedEvent }[]>();
    // What is an event in one of the versions is taken under the id that it has there; the room's turn finds out which is right.
    const add = (raw: Uint8Array, as: { roomId: RoomId; room: PushedRoom; event: ScreenedEvent }): void => {
      const before = screened.get(raw) ?? [];
      const sound = [...before, as].filter(({ event }) => event.outcome === 'sound');
      screened.set(raw, sound.length > 0 ? sound : before.length > 0 ? before : [as]);
    };
    await Promise.all(
      [...rooms].map(async ([roomId, room]) => {
        const events = received.filter((pdu) => pdu.roomId === roomId).map(({ raw }) => raw);
        for (const roomVersion of versionsOf(room)) {
          const seen = await verification.screen({ roomVersion, roomId, events, signal });
          for (const [i, event] of seen.entries()) add(events[i] as Uint8Array, { roomId, room, event });
        }
      }),
    );
    return received.flatMap(({ raw }) => screened.get(raw) ?? []);
  };

  return {
    isAllowed,
    async screen(origin, received, signal) {
      const roomIds = [...new Set(received.map(({ roomId }) => roomId))];
      const counted = { ofRoom: STAGED_OF_OUTSIDERS_MAX, ofOrigin: STAGED_OF_ORIGIN_AT_ALL_MAX };
      const { rooms, ofOrigin } = await readPushedRooms(store, origin, roomIds, counted);
      const isOver = ofOrigin.staged >= STAGED_OF_ORIGIN_AT_ALL_MAX || ofOrigin.beforeNoGap >= STAGED_OF_ORIGIN_MAX;
      if (isOver) return { outcome: 'limited' };
      const denied = new Set<RoomId>();
      for (const room of rooms.values()) {
        if (!(await isAllowed(room, origin))) denied.add(room.roomId);
        else if (await isOverItsPart(store, origin, room)) return { outcome: 'limited' };
      }
      const results: Record<EventId, { error?: string }> = {};
      const pdus = new Map<EventId, PduToStage>();
      for (const { roomId, room, event } of await screenByRoom(rooms, received, signal)) {
        const { eventId } = event;
        // A bad copy beside a good one changes nothing.
        if (eventId === null || pdus.has(eventId)) continue;
        const isDenied = denied.has(roomId);
        const error =
          event.outcome === 'refused' ? event.reason : isDenied ? `${roomId} denies ${origin} by its ACL` : undefined;
        results[eventId] = error === undefined ? {} : { error };
        if (event.outcome === 'refused' || error !== undefined) continue;
        pdus.set(eventId, { roomId, eventId, raw: event.raw, waitsFor: room.isAnybodyIn ? [] : room.intents });
      }
      const elsewhere = new Set(roomIds.filter((roomId) => rooms.get(roomId)?.isAnybodyIn !== true));
      return { outcome: 'screened', results, pdus: [...pdus.values()], elsewhere };
    },
  };
}

/**
 * Whether the server has its part of what may wait of the room, and there is nothing left beside. Nearly always a look at few rows
 * says that it has not. Of a room that is not ours nothing waits.
 */
async function isOverItsPart(
  sql: Sql,
  origin: ServerName,
  { roomId, staged, stagedOfOrigin }: PushedRoom,
): Promise<boolean> {
  if (staged < STAGED_OF_OUTSIDERS_MAX || stagedOfOrigin < STAGED_OF_OUTSIDER_MIN) return false;
  const beside = await readStagedBeside(sql, origin, roomId, COUNTED_OF_ROOM_MAX);
  const share = beside.isInside ? STAGED_OF_ROOM_MAX : STAGED_OF_OUTSIDERS_MAX;
  const part = beside.isInside ? STAGED_OF_ORIGIN_IN_ROOM_MIN : STAGED_OF_OUTSIDER_MIN;
  return beside.staged >= share && beside.own >= Math.max(part, share / beside.origins);
}

/** The version of a room that we are in, or those of which it is said to be that we are about to join, as far as we know them. */
function versionsOf({ roomVersions, isAnybodyIn, intents }: PushedRoom): readonly string[] {
  if (!isAnybodyIn && intents.length === 0) return [];
  return roomVersions.filter((roomVersion) => roomVersionRules(roomVersion) !== undefined);
}
