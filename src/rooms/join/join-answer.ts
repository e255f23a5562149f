/**
 * Receives the answer of send_join: verifies what it holds, judges it, and refuses it whole when it is not what the join asked for. Events
 * are stored as they arrive and only their outlines kept, since a classic answer holds every member of the room. What a
 * refused answer leaves behind is signed by its senders and in no state.
 */
import { type AnsweredPdu, type JoinAnswerVerdict, checkJoinAnswer } from '../../federation/join-answer.ts';
import { type JoinTemplate } from '../../federation/join-template.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { insertPdus } from '../../store/events/pdus.ts';
import { isAnybodyIn, readRoom } from '../../store/journal/rooms.ts';
import { createSnapshot } from '../../store/snapshots/snapshots.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type CheckOutcome, type CheckedPdu } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { checkEvents, passed } from '../judge/check-events.ts';
import { judgeOutliers } from '../judge/judge-outliers.ts';
import { createLanes } from '../lanes.ts';

/** Batches verified and stored while the next ones arrive. */
const BATCHES_IN_FLIGHT = 4;

export interface SentJoin {
  readonly roomId: RoomId;
  readonly eventId: EventId;
  readonly event: JsonObject;
  readonly resident: ServerName;
  readonly template: JoinTemplate;
  /** False: the whole state is wanted at once. */
  readonly omitMembers: boolean;
}

export interface TakenJoinAnswer {
  readonly membersOmitted: boolean;
  readonly serversInRoom: readonly ServerName[];
  /** The returned state, without what its auth events refuse. */
  readonly stateBefore: SnapshotId;
}

/** Events, the join among them, are stored when this returns; nothing is decided yet. @throws RoomError, FederationError */
export async function takeJoinAnswer(
  context: RoomsContext,
  join: SentJoin,
  signal: AbortSignal,
): Promise<TakenJoinAnswer> {
  const { store, federation } = context;
  const { roomId, eventId, resident, template } = join;
  const omitMembersAsked = join.omitMembers && (await mayBePartial(context, roomId));
  const lanes = createLanes(BATCHES_IN_FLIGHT, signal);
  const stream = await federation.sendJoin(resident, roomId, eventId, join.event, {
    signal: lanes.signal,
    omitMembers: omitMembersAsked,
  });

  const check = (events: readonly Uint8Array[]): Promise<readonly CheckOutcome[]> =>
    checkEvents(context, { roomId, rules: template.rules, events, capReferences: false, signal: lanes.signal });
  const failed: CheckOutcome[] = [];
  const take = async (events: readonly Uint8Array[]): Promise<readonly AnsweredPdu[]> => {
    const outcomes = await check(events);
    const pdus = passed(outcomes);
    failed.push(...outcomes.filter(({ outcome }) => outcome !== 'passed' && outcome !== 'skipped'));
    await insertPdus(store, pdus);
    return pdus.map(outlineOf);
  };
  const batches: { readonly array: 'state' | 'auth_chain'; taken: readonly AnsweredPdu[] }[] = [];
  try {
    for await (const { array, events } of stream) {
      const batch: (typeof batches)[number] = { array, taken: [] };
      batches.push(batch);
      await lanes.start(async () => {
        batch.taken = await take(events);
      });
    }
  } finally {
    // Nothing of a refused answer is under way when the next resident is asked.
    await lanes.drain();
  }
  const given = (of: 'state' | 'auth_chain'): AnsweredPdu[] =>
    batches.flatMap(({ array, taken }) => (array === of ? taken : []));
  const [state, authChain] = [given('state'), given('auth_chain')];

  const header = stream.header();
  const [returnedEvent] = header.event === undefined ? [] : await check([header.event]);
  const verdict = checkJoinAnswer({
    template,
    roomId,
    joinEventId: eventId,
    ourselves: context.serverName,
    resident,
    omitMembersAsked,
    header,
    state,
    authChain,
    returnedEvent,
  });
  if (!verdict.ok) throw unusable(resident, `${verdict.reason} (${verdict.rule})`, failed);
  if (failed.length > 0) {
    context.logger.warn(
      { roomId, resident, failed: failed.length, first: failed[0] },
      'events of the join answer failed their checks and were left out; the resync asks for them again',
    );
  }

  const ours = verdict.joinEvent ?? (await ownEvent(join, check));
  await insertPdus(store, [ours]);
  return {
    membersOmitted: verdict.membersOmitted,
    serversInRoom: verdict.serversInRoom,
    stateBefore: await stateOf(context, join, verdict, authChain),
  };
}

/** Without its body, which is stored by now; that of a create event says the room's version. */
function outlineOf(pdu: CheckedPdu): AnsweredPdu {
  const { eventId, roomId, type, stateKey } = pdu;
  return type === 'm.room.create' ? pdu : { eventId, roomId, type, stateKey };
}

/** Partial state is taken only when we are not in the room, or the room is partial already (MSC3902). */
async function mayBePartial({ store }: RoomsContext, roomId: RoomId): Promise<boolean> {
  const room = await readRoom(store, roomId);
  if (room === undefined || room.partial) return true;
  return !(await isAnybodyIn(store, roomId));
}

async function ownEvent(
  { event }: SentJoin,
  check: (events: readonly Uint8Array[]) => Promise<readonly CheckOutcome[]>,
): Promise<CheckedPdu> {
  const [outcome] = await check([Buffer.from(JSON.stringify(event))]);
  if (outcome?.outcome === 'passed') return outcome.pdu;
  throw new Error(`our own join does not pass the checks: ${JSON.stringify(outcome)}`);
}

async function stateOf(
  { store }: RoomsContext,
  { roomId, resident, template }: SentJoin,
  verdict: JoinAnswerVerdict,
  authChain: readonly AnsweredPdu[],
): Promise<SnapshotId> {
  const given = [...new Set([...verdict.state, ...authChain].map(({ eventId }) => eventId))];
  const judged = await judgeOutliers(store, roomId, template.rules, given, () => undefined);
  const accepted = verdict.state.filter(({ eventId }) => judged.get(eventId)?.verdict === 'accepted');
  if (!accepted.some(({ eventId }) => eventId === verdict.createEvent.eventId)) {
    throw unusable(resident, 'the create event is refused by the auth rules', []);
  }
  return createSnapshot(
    store,
    roomId,
    accepted.map(({ eventId }) => eventId),
  );
}

function unusable(resident: ServerName, reason: string, failed: readonly CheckOutcome[]): RoomError {
  const first = failed[0];
  const cause =
    first === undefined ? '' : `; ${failed.length} events failed their checks, the first: ${describe(first)}`;
  return new RoomError('unusable-answer', `${resident} gave an unusable answer to send_join: ${reason}${cause}`);
}

function describe(outcome: CheckOutcome): string {
  switch (outcome.outcome) {
    case 'bad-signature':
      return `${outcome.eventId} has a wrong signature of ${outcome.serverName}: ${outcome.reason}`;
    case 'key-missing':
      return `${outcome.eventId} is signed with a key of ${outcome.serverName} that cannot be had`;
    case 'malformed':
      return `${outcome.eventId ?? 'an event'} is malformed: ${outcome.reason}`;
    case 'passed':
    case 'skipped':
      return 'none';
  }
}
