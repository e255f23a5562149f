/**
 * send_join, send_leave and send_knock: a membership event of another server's user is checked, judged as every event is, and taken in
 * with the word that the other servers of the room are to get it. What the rules do not let pass leaves nothing behind.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#joining-rooms
 */
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { authoriseAgainstState } from '../../matrix/auth/auth-rules.ts';
import { parsePdu } from '../../matrix/event-format.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { domainOf, parseUserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { signEvent } from '../../matrix/signing/signatures.ts';
import { type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { readParents } from '../../store/events/anchors.ts';
import { type StoredEventState, readEventStates } from '../../store/events/event-states.ts';
import { insertPdus, readPdus } from '../../store/events/pdus.ts';
import { lockRoom, readStanding } from '../../store/journal/rooms.ts';
import { type Store, type Transaction, withTransaction } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { internStateKeys } from '../../store/snapshots/state-keys.ts';
import { type CheckedPdu } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { type Admission } from '../judge/admission.ts';
import { appendTakenIn } from '../judge/append-taken-in.ts';
import { authStateOf } from '../judge/auth-state.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import {
  RESOLVED_UNDER_LOCK_MS_MAX,
  judgeAhead,
  requireResolved,
  resolvingOutside,
} from '../judge/outside-the-lock.ts';
import { prepareAdmission } from '../judge/prepare-admission.ts';
import { ResolutionTakesLong, resolveBriefly, resolveWithin } from '../judge/resolve-in-time.ts';
import { ResolutionTooLarge } from '../judge/resolve.ts';
import { type SentMembership } from '../resident-contract.ts';
import { ringRoom } from '../ring.ts';
import { asOutgoing, requireAccepted } from '../send/send-event.ts';
import { ResidentError } from '../resident-error.ts';
import { checkHanded } from './checked-event.ts';
import { type WholeRoom, requireWhole, vouching } from './membership-template.ts';

export interface TakenMembership {
  readonly pdu: CheckedPdu;
  readonly stateBefore: SnapshotId;
  readonly roomVersion: string;
}

/** Until the states that its parents lead to are resolved; who sends the event chooses them. */
const RESOLVED_MS_MAX = 5_000;

/** Idempotent while the membership lasts. @throws ResidentError; RoomError as `sendEvent` does */
export async function takeMembership(context: RoomsContext, sent: SentMembership): Promise<TakenMembership> {
  const { store } = context;
  const { roomId, eventId } = sent;
  const standing = requireWhole(await readStanding(store, roomId));
  const pdu = await checkSent(context, standing, sent);
  if ((await readEventStates(store, roomId, [eventId])).size === 0) await prepare(store, standing, pdu);
  const taken = await resolvingOutside(
    () => takeLocked(context, pdu),
    async () => {
      await insertPdus(store, [pdu]);
      await judgeAhead(store, roomId, eventId, resolveWithin(RESOLVED_MS_MAX));
    },
  );
  if (taken.ringsFor !== undefined) await ringRoom(context, roomId, taken.ringsFor);
  return { pdu, stateBefore: taken.stateBefore, roomVersion: standing.roomVersion };
}

/** @throws ResolutionTakesLong; ResidentError; RoomError */
function takeLocked(
  context: RoomsContext,
  pdu: CheckedPdu,
): Promise<{ readonly stateBefore: SnapshotId; readonly ringsFor: string | undefined }> {
  const { roomId, eventId } = pdu;
  return withTransaction(context.store, async (tx) => {
    const room = requireWhole(await lockRoom(tx, roomId));
    const known = (await readEventStates(tx, roomId, [eventId])).get(eventId);
    if (known !== undefined) {
      await requireSame(tx, pdu);
      await requireStill(tx, room, known, pdu);
      return { stateBefore: known.stateBefore, ringsFor: undefined };
    }
    const { alreadyHeld } = await insertPdus(tx, [pdu]);
    if (alreadyHeld > 0) await requireSame(tx, pdu);
    const resolve = resolveBriefly(RESOLVED_UNDER_LOCK_MS_MAX);
    const { admissions, entries } = await prepareAdmission(tx, room, [eventId], { resolve });
    requireResolved(admissions.get(eventId));
    requireAdmitted(admissions.get(eventId), entries);
    const own = entries.find((entry) => entry.type === 'PduAccepted' && entry.eventId === eventId);
    if (own?.type !== 'PduAccepted') throw new ResidentError('busy', 'the room cannot take the event now');
    return {
      stateBefore: own.stateBefore,
      ringsFor: await appendTakenIn(tx, room, entries.map(asOutgoing), context),
    };
  });
}

/**
 * What takes long, or outlives a rollback, before the lock is taken; nothing of it for what the room does not let pass as it stands.
 *
 * @throws ResidentError
 */
async function prepare(store: Store, { roomId, roomVersion, currentState }: WholeRoom, pdu: CheckedPdu): Promise<void> {
  const rules = rulesOfJoined(roomVersion);
  const event = parseJsonObject(pdu.json);
  const parsed = event.ok ? parsePdu(event.value, rules, { knownId: pdu.eventId }) : event;
  if (!parsed.ok) throw new ResidentError('malformed', parsed.reason);
  const state = await authStateOf(store, roomId, rules, currentState, parsed.pdu);
  const verdict = authoriseAgainstState(parsed.pdu, state, rules);
  if (!verdict.ok) throw new ResidentError('forbidden', `${verdict.reason} (${verdict.rule})`);
  const parents = await readParents(store, roomId, pdu.prevEvents);
  if (parents.size < new Set(pdu.prevEvents).size) {
    throw new ResidentError('busy', 'the event builds on what this server does not hold');
  }
  try {
    const states = [...parents.values()].map(({ stateAfter }) => stateAfter);
    await resolveWithin(RESOLVED_MS_MAX)(store, roomId, rules, states);
  } catch (error) {
    if (!(error instanceof ResolutionTooLarge || error instanceof ResolutionTakesLong)) throw error;
    throw new ResidentError('busy', `the room cannot take the event now: ${error.message}`);
  }
  await internStateKeys(store, [{ type: pdu.type, stateKey: pdu.stateKey ?? '' }]);
}

/** Of what waits nothing is concluded: another time, or another resident, may do. @throws ResidentError; RoomError */
function requireAdmitted(admission: Admission | undefined, entries: readonly TimelineEvent[]): void {
  if (admission === undefined || admission.outcome === 'foreign' || admission.outcome === 'placeless') {
    throw new ResidentError('malformed', 'the event is of another room, or has no place in it');
  }
  requireAccepted(admission, entries);
}

/** Where senders choose ids, another event may be held under this one. @throws ResidentError */
async function requireSame(tx: Transaction, pdu: CheckedPdu): Promise<void> {
  const [held] = await readPdus(tx, pdu.roomId, [pdu.eventId]);
  if (held !== undefined && signedPart(held.json) === signedPart(pdu.json)) return;
  throw new ResidentError('forbidden', 'another event is held under that id');
}

/** @throws ResidentError unless the event was let pass, and its sender still is what it made him */
async function requireStill(
  tx: Transaction,
  { roomId, epoch, currentState }: WholeRoom,
  known: StoredEventState,
  { sender, membership }: CheckedPdu,
): Promise<void> {
  if (known.epoch !== epoch || known.verdict !== 'accepted' || known.softFailed) {
    throw new ResidentError('forbidden', known.reason ?? 'the room has refused that event before');
  }
  const [member] = await readSnapshot(tx, roomId, currentState, { userIds: [sender] });
  if (member?.membership !== membership) throw new ResidentError('forbidden', 'the event has been superseded');
}

/** All of an event that copies of it have in common, canonically. */
function signedPart(json: string | Uint8Array): string | undefined {
  const read = parseJsonObject(json);
  if (!read.ok) return undefined;
  const common = Object.entries(read.value).filter(([name]) => name !== 'signatures' && name !== 'unsigned');
  return canonicalJson(Object.fromEntries(common));
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
