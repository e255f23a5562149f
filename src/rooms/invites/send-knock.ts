/**
 * One send_knock of a recorded knock at one resident, and what may become of it. It is recorded before it is sent: where the answer is lost, or
 * the process ends over it, the same event is sent again in the background, and the same knock is found.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#knocking-upon-a-room
 */
import { invariant } from '../../invariant.ts';
import { FederationError, isRefusal } from '../../federation/error.ts';
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { type EventId } from '../../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { roomVersionRules } from '../../matrix/room-versions.ts';
import { isAnybodyIn } from '../../store/journal/rooms.ts';
import {
  type JoinIntent,
  deleteJoinIntent,
  deleteJoinIntents,
  deleteKnockIntent,
  recordJoinIntent,
} from '../../store/tables/intents.ts';
import { readOutside, upsertOutside } from '../../store/tables/outside-memberships.ts';
import { type RoomsContext } from '../context.ts';
import { checkToldOfRoom } from './told-of-room.ts';

/** Sends it, and keeps what the resident tells of the room. @throws FederationError; what the signal is aborted with */
export async function sendKnock(context: RoomsContext, intent: JoinIntent, signal: AbortSignal): Promise<void> {
  // What comes while it is under way answers it, and stays.
  const held = await readOutside(context.store, intent.roomId, intent.userId);
  await keepKnock(context, intent, await sent(context, intent, signal), signal, held?.eventId ?? intent.eventId);
}

/**
 * The same of one whose fate is unclear; a refusal settles it, too, and so does whatever the user has become in the room meanwhile.
 *
 * @throws FederationError where it still is unclear
 */
export async function finishKnock(context: RoomsContext, intent: JoinIntent, signal: AbortSignal): Promise<void> {
  const { store } = context;
  const { roomId, userId, eventId } = intent;
  const held = await readOutside(store, roomId, userId);
  const isOvertaken = (held !== undefined && held.membership !== 'leave') || (await isAnybodyIn(store, roomId));
  if (isOvertaken) return deleteJoinIntent(store, eventId);
  try {
    await keepKnock(context, intent, await sent(context, intent, signal), signal, held?.eventId ?? eventId);
  } catch (error) {
    if (!(error instanceof FederationError && isRefusal(error))) throw error;
    await deleteJoinIntent(store, eventId);
  }
}

function sent(
  { federation }: RoomsContext,
  { resident, roomId, eventId, event }: JoinIntent,
  signal: AbortSignal,
): Promise<Json | undefined> {
  return federation.sendKnock(resident, roomId, eventId, event, { signal });
}

/**
 * With all that was recorded of the user in the room, which is settled by it. `over`: what may be there, and is replaced. A knock that the
 * user took back, or the room refused, while it was under way is none any more; the resident, who took it, is told by the background.
 */
async function keepKnock(
  context: RoomsContext,
  intent: JoinIntent,
  told: Json | undefined,
  signal: AbortSignal,
  over: EventId,
): Promise<void> {
  const { roomId, userId, eventId, event, roomVersion, resident: server } = intent;
  const rules = roomVersionRules(roomVersion);
  invariant(rules !== undefined, 'a knock of a version that we speak was sent');
  const { kept } = await checkToldOfRoom(context, rules, { roomId, told: told ?? null, signal }).catch(
    (error: unknown): { kept: readonly JsonObject[] } => {
      // It has been taken: what the room is called is no reason to lose it.
      if (!signal.aborted) throw error;
      return { kept: [] };
    },
  );
  const row = { roomId, userId, membership: 'knock', eventId, roomVersion, sender: userId, server } as const;
  await context.store.inTransaction(async (tx) => {
    if (await deleteKnockIntent(tx, eventId)) {
      await deleteJoinIntents(tx, roomId, userId);
      return upsertOutside(tx, row, canonicalJson(event), JSON.stringify(kept), over);
    }
    const held = await readOutside(tx, roomId, userId);
    if (held !== undefined && held.membership !== 'leave') return;
    await recordJoinIntent(tx, { ...intent, what: 'leave', notBefore: context.clock.now(), attempts: 0 });
  });
}
