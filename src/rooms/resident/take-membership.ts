/**
 * send_join, send_leave and send_knock: a membership event of another server's user is checked, judged as every event is, and taken in
 * with the word that the other servers of the room are to get it. What the rules do not let pass leaves nothing behind.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#joining-rooms
 */
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { domainOf, parseUserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { signEvent } from '../../matrix/signing/signatures.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readEventStates } from '../../store/events/event-states.ts';
import { insertPdus } from '../../store/events/pdus.ts';
import { lockRoom, readStanding } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { type CheckedPdu } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { appendTakenIn } from '../judge/append-taken-in.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { prepareAdmission } from '../judge/prepare-admission.ts';
import { type SentMembership } from '../resident-contract.ts';
import { ringRoom } from '../ring.ts';
import { asOutgoing, prepareGround, requireAccepted } from '../send/send-event.ts';
import { ResidentError } from '../resident-error.ts';
import { checkHanded } from './checked-event.ts';
import { type WholeRoom, requireWhole, vouching } from './membership-template.ts';

export interface TakenMembership {
  readonly pdu: CheckedPdu;
  readonly stateBefore: SnapshotId;
}

/** Idempotent. @throws ResidentError; RoomError as `sendEvent` does */
export async function takeMembership(context: RoomsContext, sent: SentMembership): Promise<TakenMembership> {
  const { store } = context;
  const { roomId, eventId } = sent;
  const standing = requireWhole(await readStanding(store, roomId));
  const pdu = await checkSent(context, standing, sent);
  await prepareGround(context, roomId, { type: pdu.type, stateKey: pdu.stateKey ?? undefined });
  const taken = await withTransaction(store, async (tx) => {
    const room = requireWhole(await lockRoom(tx, roomId));
    const known = (await readEventStates(tx, roomId, [eventId])).get(eventId);
    if (known !== undefined) {
      const isIn = known.epoch === room.epoch && known.verdict === 'accepted' && !known.softFailed;
      if (!isIn) throw new ResidentError('forbidden', known.reason ?? 'the room has refused that event before');
      return { stateBefore: known.stateBefore, ringsFor: undefined };
    }
    await insertPdus(tx, [pdu]);
    const { admissions, entries } = await prepareAdmission(tx, room, [eventId]);
    const admission = admissions.get(eventId);
    if (admission?.outcome !== 'admitted' && admission?.outcome !== 'unresolved') {
      throw new ResidentError('malformed', 'the event is of another room, or builds on what this server does not hold');
    }
    requireAccepted(admission, entries);
    const own = entries.find((entry) => entry.type === 'PduAccepted' && entry.eventId === eventId);
    if (own?.type !== 'PduAccepted') throw new ResidentError('busy', 'the room cannot take the event now');
    return {
      stateBefore: own.stateBefore,
      ringsFor: await appendTakenIn(tx, room, entries.map(asOutgoing), context),
    };
  });
  if (taken.ringsFor !== undefined) await ringRoom(context, roomId, taken.ringsFor);
  return { pdu, stateBefore: taken.stateBefore };
}

/** A join that names one of us as who vouches gets our signature. */
async function checkSent(context: RoomsContext, room: WholeRoom, sent: SentMembership): Promise<CheckedPdu> {
  const { change } = sent;
  const rules = rulesOfJoined(room.roomVersion);
  const raw = change === 'join' ? await withOurWord(context, room, rules, sent) : sent.raw;
  return checkHanded(context, rules, { ...sent, raw }, (pdu) => {
    if (pdu.type !== 'm.room.member' || pdu.membership !== change) return `that is no ${change}`;
    return pdu.stateKey === pdu.sender ? undefined : 'its sender is not whose membership it is';
  });
}

/** @throws ResidentError where we are named and do not vouch for the join */
async function withOurWord(
  context: RoomsContext,
  room: WholeRoom,
  rules: RoomVersionRules,
  { raw }: SentMembership,
): Promise<Uint8Array> {
  const read = rules.restrictedJoins ? parseJsonObject(raw) : undefined;
  const content = read?.ok === true ? read.value['content'] : undefined;
  if (read?.ok !== true || !isJsonObject(content)) return raw;
  const authoriser = parseUserId(content['join_authorised_via_users_server']);
  const sender = parseUserId(read.value['sender']);
  if (authoriser === undefined || domainOf(authoriser) !== context.serverName || sender === undefined) return raw;
  // A user whom the room lets in anyway may name somebody all the same, and so may one who was let in meanwhile.
  await vouching(context, room, rules, sender);
  return signed(context, rules, read.value);
}

function signed({ serverName, signingKey }: RoomsContext, rules: RoomVersionRules, event: JsonObject): Uint8Array {
  return Buffer.from(canonicalJson(signEvent(event, rules, serverName, signingKey)));
}
