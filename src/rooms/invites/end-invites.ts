/**
 * Invites that are withdrawn, and knocks that are refused, in rooms that we are not in: the server that invited, or took the knock, sends
 * the leave or the ban, which cites it. We cannot judge it, so nobody else ends what is not his.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#inviting-to-a-room
 */
import { type EventId, type RoomId, type ServerName, domainOf } from '../../matrix/identifiers.ts';
import { roomVersionRules } from '../../matrix/room-versions.ts';
import { deleteKnockIntent, readOpenKnocks } from '../../store/tables/intents.ts';
import {
  type OutsideMembership,
  endOutside,
  readOpenOutside,
  readOutside,
  upsertOutside,
} from '../../store/tables/outside-memberships.ts';
import { type RoomsContext } from '../context.ts';
import { type ReceivedTransaction } from '../contract.ts';
import { checkEvents, passed } from '../judge/check-events.ts';

type EndContext = Pick<RoomsContext, 'store' | 'verification' | 'keyRing'>;

/**
 * @param pdus of rooms that are not ours
 * @returns the events by which something is over
 */
export async function endInvites(
  context: EndContext,
  origin: ServerName,
  pdus: ReceivedTransaction['pdus'],
  signal: AbortSignal,
): Promise<EventId[]> {
  const roomIds = [...new Set(pdus.map(({ roomId }) => roomId))];
  const open = await readOpen(context.store, roomIds);
  if (open.length === 0) return [];
  const ended: EventId[] = [];
  for (const roomId of roomIds) {
    const ofRoom = open.filter((row) => row.roomId === roomId);
    const events = pdus.flatMap((pdu) => (pdu.roomId === roomId ? [pdu.raw] : []));
    ended.push(...(await endInRoom(context, origin, roomId, ofRoom, events, signal)));
  }
  return ended;
}

/** Of a knock the answer may not have come yet, and yet it is refused. */
interface Open extends OutsideMembership {
  readonly isUnderWay?: boolean;
}

async function readOpen(store: EndContext['store'], roomIds: readonly RoomId[]): Promise<readonly Open[]> {
  const underWay = (await readOpenKnocks(store, roomIds)).map(
    ({ roomId, userId, eventId, roomVersion, resident: server }) =>
      ({
        roomId,
        userId,
        membership: 'knock',
        eventId,
        roomVersion,
        sender: userId,
        server,
        isUnderWay: true,
      }) as const,
  );
  return [...(await readOpenOutside(store, roomIds)), ...underWay];
}

async function endInRoom(
  context: EndContext,
  origin: ServerName,
  roomId: RoomId,
  open: readonly Open[],
  events: readonly Uint8Array[],
  signal: AbortSignal,
): Promise<EventId[]> {
  const rules = roomVersionRules(open[0]?.roomVersion ?? '');
  if (rules === undefined) return [];
  const checked = passed(await checkEvents(context, { roomId, rules, events, asker: 'pushed', signal }));
  const ended: EventId[] = [];
  for (const { eventId, type, stateKey, membership, sender, authEvents } of checked) {
    if (type !== 'm.room.member' || (membership !== 'leave' && membership !== 'ban')) continue;
    const over = open.find((row) => row.userId === stateKey && authEvents.includes(row.eventId));
    if (over?.server !== origin || domainOf(sender) !== origin) continue;
    if (over.isUnderWay === true) await refuseKnock(context.store, over, eventId);
    else await endOutside(context.store, over);
    ended.push(eventId);
  }
  return ended;
}

/** Written as the event that refuses it: whoever gets the knock's answer finds that something has come in between. */
async function refuseKnock(store: EndContext['store'], knock: Open, refusal: EventId): Promise<void> {
  const { roomId, userId, eventId, roomVersion, sender, server } = knock;
  await store.inTransaction(async (tx) => {
    if (!(await deleteKnockIntent(tx, eventId))) return endOutside(tx, knock);
    const held = await readOutside(tx, roomId, userId);
    const row = { roomId, userId, membership: 'leave', eventId: refusal, roomVersion, sender, server } as const;
    await upsertOutside(tx, row, '{}', '[]', held?.membership === 'leave' ? held.eventId : refusal);
  });
}
