/**
 * What is looked at before a transaction is answered: the form of each PDU, its size and id, whether its servers signed it
 * at all, the room's ACL, and whether the room is ours. Each is judged by itself; whatever asks the network, or other
 * events, comes later.
 *
 * A server that has too much waiting here already is told to come back before anything is stored. Of a room that has, each event
 * is refused by name, and no other room suffers: told to come back, senders leave our whole server alone for many minutes,
 * and one flooded room would cost all others what they say. What is refused so is not lost. Nobody sends it again, but the
 * next event of the room cites it, directly or not, and what an event lacks is asked for.
 */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { roomVersionRules } from '../../matrix/room-versions.ts';
import { type PduToStage } from '../../store/tables/staged-pdus.ts';
import { type PushedRoom, readPushedRooms } from '../../store/tables/staged-reads.ts';
import { type ScreenedEvent } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { type PduResults, type ReceivedTransaction } from '../contract.ts';
import { type AclReader, createAclReader } from './server-acl.ts';

/** Events of one server that wait here, but for a gap; it sends 50 at a time, and a turn takes as many. */
const STAGED_OF_ORIGIN_MAX = 2_000;
/** And of these in one room, those that wait for a gap too: what one room lacks keeps no other room of the server waiting. */
const STAGED_OF_ORIGIN_IN_ROOM_MAX = 2_000;
/** Whatever they wait for, in all rooms. */
const STAGED_OF_ORIGIN_AT_ALL_MAX = 20_000;
/** Events of one room that wait here: more than a busy room says in an hour, while its gap is closed. */
const STAGED_OF_ROOM_MAX = 5_000;
/** Who has fewer than these in a room may send more, however many others have: a flood keeps nobody else out. */
const STAGED_OF_SENDER_IN_ROOM_MIN = 200;
export type Screening =
  | {
      readonly outcome: 'screened';
      readonly results: PduResults;
      /** In the order they came. */
      readonly pdus: readonly PduToStage[];
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
      const counted = { ofRoom: STAGED_OF_ROOM_MAX, ofOrigin: STAGED_OF_ORIGIN_AT_ALL_MAX };
      const { rooms, ofOrigin } = await readPushedRooms(store, origin, roomIds, counted);
      const isOver = ofOrigin.staged >= STAGED_OF_ORIGIN_AT_ALL_MAX || ofOrigin.beforeNoGap >= STAGED_OF_ORIGIN_MAX;
      if (isOver) return { outcome: 'limited' };
      const isFull = ({ staged, stagedOfOrigin: own }: PushedRoom): boolean =>
        own >= STAGED_OF_ORIGIN_IN_ROOM_MAX || (staged >= STAGED_OF_ROOM_MAX && own >= STAGED_OF_SENDER_IN_ROOM_MIN);

      const refusalOf = async (room: PushedRoom): Promise<string | undefined> => {
        if (!(await isAllowed(room, origin))) return `${room.roomId} denies ${origin} by its ACL`;
        return isFull(room)
          ? 'too many events of the room wait here; it will be asked for when another cites it'
          : undefined;
      };
      const results: Record<EventId, { error?: string }> = {};
      const pdus = new Map<EventId, PduToStage>();
      for (const { roomId, room, event } of await screenByRoom(rooms, received, signal)) {
        const { eventId } = event;
        // A bad copy beside a good one changes nothing.
        if (eventId === null || pdus.has(eventId)) continue;
        const error = event.outcome === 'refused' ? event.reason : await refusalOf(room);
        results[eventId] = error === undefined ? {} : { error };
        if (event.outcome === 'refused' || error !== undefined) continue;
        pdus.set(eventId, { roomId, eventId, raw: event.raw, waitsFor: room.isAnybodyIn ? [] : room.intents });
      }
      return { outcome: 'screened', results, pdus: [...pdus.values()] };
    },
  };
}

/** The version of a room that we are in, or those of which it is said to be that we are about to join, as far as we know them. */
function versionsOf({ roomVersions, isAnybodyIn, intents }: PushedRoom): readonly string[] {
  if (!isAnybodyIn && intents.length === 0) return [];
  return roomVersions.filter((roomVersion) => roomVersionRules(roomVersion) !== undefined);
}
