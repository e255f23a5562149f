/**
 * Events of our own users. One is made on what is known of the room at that moment, whole or partial, without waiting: over its
 * extremities, with the auth events of its current state, and judged by the same act as everybody else's. What the rules do not
 * let pass is refused and leaves nothing behind. Judging and appending are one transaction under the room's lock, since an
 * event stands on the extremities there are; no network is asked. Where states take long to resolve, the lock is let go, and the event
 * made before it. What other servers get of it is in src/sending/.
 */
import { authoriseAgainstState } from '../../matrix/auth/auth-rules.ts';
import { type Draft } from '../../matrix/compose.ts';
import { type EventId, IDENTIFIER_BYTES_MAX, type RoomId } from '../../matrix/identifiers.ts';
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type JournalEvent } from '../../resync/entries.ts';
import { type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { readParents } from '../../store/events/anchors.ts';
import { insertPdus, readPdus } from '../../store/events/pdus.ts';
import { type LockedRoom, lockRoom, readStanding } from '../../store/journal/rooms.ts';
import { readSilentLeaves } from '../../store/journal/silent-leaves.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { internStateKeys } from '../../store/snapshots/state-keys.ts';
import {
  type ClientTransaction,
  readClientTransaction,
  recordClientTransaction,
} from '../../store/tables/client-transactions.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
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
import { resolveBriefly } from '../judge/resolve-in-time.ts';
import { resolveInSteps } from '../judge/resolve-in-steps.ts';
import { resolveTogether } from '../judge/resolve.ts';
import { ringRoom } from '../ring.ts';
import { checkedOwn, composeOwn, placeInRoom, readChosenParents, readContent } from './compose-own.ts';

export type SendContext = Pick<
  RoomsContext,
  'serverName' | 'signingKey' | 'store' | 'clock' | 'random' | 'logger' | 'ring' | 'policy'
>;

export interface SendOptions {
  /** The same request again gives the same event, and sends nothing. */
  readonly transaction?: ClientTransaction | undefined;
  /** It is what takes its sender out: who has left silently may say that, and nothing else. */
  readonly isOwnLeave?: boolean;
  /** Looks at the locked room: the event that says already what is to be said, so that nothing is sent. */
  readonly isSaid?: (tx: Transaction, room: LockedRoom) => Promise<EventId | undefined>;
}

/**
 * Sends an event into a room in which this server is.
 *
 * @returns its id, once it is durable
 * @throws RoomError `forbidden` where the room's rules do not let it pass, or nobody of us is in the room; `malformed`, `too-large`; `busy`
 *   where what its ends resolve to takes long again and again, or is not at hand
 */
export async function sendEvent(
  context: SendContext,
  roomId: RoomId,
  draft: Draft,
  options: SendOptions = {},
): Promise<EventId> {
  const { store } = context;
  const { transaction } = options;
  const before = transaction && (await readClientTransaction(store, transaction));
  if (before !== undefined) return before;
  await prepareGround(context, roomId, draft);
  let made: Pdu | undefined;
  const sent = await resolvingOutside(
    () => sendLocked(context, roomId, draft, options, made),
    async () => {
      made ??= await makeAhead(context, roomId, draft);
      await judgeAhead(store, roomId, made.eventId, resolveTogether);
    },
  );
  if (sent.ringsFor !== undefined) await ringRoom(context, roomId, sent.ringsFor);
  return sent.eventId;
}

/** @param made the event, where it was made before the lock was taken; @throws ResolutionTakesLong; RoomError */
function sendLocked(
  context: SendContext,
  roomId: RoomId,
  draft: Draft,
  { transaction, isOwnLeave = false, isSaid }: SendOptions,
  made: Pdu | undefined,
): Promise<{ readonly eventId: EventId; readonly ringsFor: string | undefined }> {
  return withTransaction(context.store, async (tx) => {
    const room = await lockRoom(tx, roomId);
    const said = transaction && (await readClientTransaction(tx, transaction));
    if (said !== undefined) return { eventId: said, ringsFor: undefined };
    if (room?.isAnybodyIn !== true) throw notThere(roomId);
    if (room.isLeftSilently && !isOwnLeave && (await readSilentLeaves(tx, roomId)).includes(draft.sender)) {
      throw notThere(roomId);
    }
    const held = (await isSaid?.(tx, room)) ?? (await sameState(tx, room, draft));
    const own = held === undefined ? await takeIn(context, tx, room, draft, made) : { eventId: held, entries: [] };
    if (transaction !== undefined) {
      await recordClientTransaction(tx, transaction, own.eventId, context.clock.now());
    }
    return { eventId: own.eventId, ringsFor: await appendTakenIn(tx, room, own.entries, context) };
  });
}

/** Makes and stores an event, as the room stands and if that lets it pass: it is taken in whatever comes meanwhile. @throws RoomError */
async function makeAhead(context: SendContext, roomId: RoomId, draft: Draft): Promise<Pdu> {
  const { store } = context;
  const room = await readStanding(store, roomId);
  if (room?.isAnybodyIn !== true || room.currentState === null) throw notThere(roomId);
  const rules = rulesOfJoined(room.roomVersion);
  const pdu = composeOwn(context, draft, await placeInRoom(store, room, rules, draft));
  const verdict = authoriseAgainstState(pdu, await authStateOf(store, roomId, rules, room.currentState, pdu), rules);
  if (!verdict.ok) throw new RoomError('forbidden', `${verdict.reason} (${verdict.rule})`);
  await insertPdus(store, [checkedOwn(pdu)]);
  return pdu;
}

/** Nobody of us is in the room, so nobody can say anything there. */
export function notThere(roomId: RoomId): RoomError {
  return new RoomError('forbidden', `nobody of this server is in ${roomId}`);
}

/**
 * What takes long or outlives a rollback is done before the lock is taken: places of the state are remembered by number, and
 * states that differ are resolved, so that under the lock the outcome is at hand.
 */
export async function prepareGround(
  { store }: Pick<SendContext, 'store'>,
  roomId: RoomId,
  { type, stateKey }: Pick<Draft, 'type' | 'stateKey'>,
): Promise<void> {
  const room = await readStanding(store, roomId);
  if (room === undefined) throw notThere(roomId);
  if (stateKey !== undefined) {
    if (Math.max(Buffer.byteLength(type), Buffer.byteLength(stateKey)) > IDENTIFIER_BYTES_MAX) {
      throw new RoomError('malformed', `a type and a state key have at most ${IDENTIFIER_BYTES_MAX} bytes`);
    }
    await internStateKeys(store, [{ type, stateKey }]);
  }
  if (room.extremities.length < 2) return;
  const rules = rulesOfJoined(room.roomVersion);
  const parents = await readParents(store, roomId, room.extremities);
  const after = (eventIds: readonly EventId[]) => eventIds.flatMap((id) => parents.get(id)?.stateAfter ?? []);
  // The state before the event, of the ends that it will cite; and then the state of the room, of those that it will not.
  const cited = await readChosenParents(store, room);
  const resolve = (states: readonly SnapshotId[]): Promise<SnapshotId> =>
    resolveInSteps(store, roomId, rules, states, new Map(), resolveTogether);
  const before = await resolve(after(cited));
  const rest = room.extremities.filter((eventId) => !cited.includes(eventId));
  if (rest.length > 0) await resolve([before, ...after(rest)]);
}

/** Makes, stores and judges an event in a locked room; gives what is to be journalled of it. @throws as `takeInPdu` */
async function takeIn(
  context: SendContext,
  tx: Transaction,
  room: LockedRoom,
  draft: Draft,
  made: Pdu | undefined,
): Promise<{ readonly eventId: EventId; readonly entries: readonly JournalEvent[] }> {
  const rules = rulesOfJoined(room.roomVersion);
  const pdu = made ?? composeOwn(context, draft, await placeInRoom(tx, room, rules, draft));
  return { eventId: pdu.eventId, entries: await takeInPdu(tx, room, pdu) };
}

/** The same, of an event that is made. @throws ResolutionTakesLong; RoomError */
export async function takeInPdu(tx: Transaction, room: LockedRoom, pdu: Pdu): Promise<readonly JournalEvent[]> {
  await insertPdus(tx, [checkedOwn(pdu)]);
  const resolve = resolveBriefly(RESOLVED_UNDER_LOCK_MS_MAX);
  const { admissions, entries } = await prepareAdmission(tx, room, [pdu.eventId], { resolve });
  requireResolved(admissions.get(pdu.eventId));
  requireAccepted(admissions.get(pdu.eventId), entries);
  return entries.map(asOutgoing);
}

/** @throws RoomError unless the event is accepted, as for others to see */
export function requireAccepted(admission: Admission | undefined, entries: readonly TimelineEvent[]): void {
  if (admission?.outcome === 'admitted' && admission.verdict === 'accepted') return;
  const refused = entries.find((entry) => entry.type === 'PduRejected');
  if (refused?.type === 'PduRejected') {
    const kind = refused.rule.endsWith('-malformed') ? 'malformed' : 'forbidden';
    throw new RoomError(kind, `${refused.reason} (${refused.rule})`);
  }
  if (admission?.outcome === 'admitted') {
    throw new RoomError('forbidden', 'the current state of the room does not let it pass');
  }
  const why = admission !== undefined && 'reason' in admission ? admission.reason : 'what it builds on is not at hand';
  throw new RoomError('busy', `the room cannot take the event now: ${why}`);
}

/** It is for others to get. */
export function asOutgoing(entry: TimelineEvent): TimelineEvent {
  return entry.type === 'PduAccepted' ? { ...entry, outgoing: true } : entry;
}

/** State that says already what its sender is saying is not said again. */
async function sameState(
  tx: Transaction,
  { roomId, currentState }: LockedRoom,
  { type, stateKey, sender, content }: Draft,
): Promise<EventId | undefined> {
  if (stateKey === undefined || currentState === null) return undefined;
  const [held] = await readSnapshot(tx, roomId, currentState, { keys: [{ type, stateKey }] });
  const [event] = held === undefined ? [] : await readPdus(tx, roomId, [held.eventId]);
  if (event?.sender !== sender || event.hollow) return undefined;
  const said = readContent(event.json)?.['content'];
  return said !== undefined && canonicalJson(said) === canonicalJson(content) ? event.eventId : undefined;
}
