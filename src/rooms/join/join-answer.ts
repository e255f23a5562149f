/**
 * Receives the answer of send_join: verifies what it holds, judges it, and refuses it whole when it is not what the join asked for. Events
 * are stored as they arrive and only their outlines kept, since a classic answer holds every member of the room. What a
 * refused answer leaves behind is signed by its senders and in no state.
 */
import { type AnsweredPdu, type JoinAnswerVerdict, checkJoinAnswer } from '../../federation/join-answer.ts';
import { type SendJoinHeader } from '../../federation/contract.ts';
import { oneLine } from '../../federation/error.ts';
import { type JoinTemplate } from '../../federation/join-template.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Omissions } from '../../store/events/left-out.ts';
import { insertPdus } from '../../store/events/pdus.ts';
import { readHead } from '../../store/journal/journal.ts';
import { isAnybodyIn, readRoom } from '../../store/journal/rooms.ts';
import { createSnapshot } from '../../store/snapshots/snapshots.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type CheckOutcome, type CheckedPdu } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { checkEvents, passed } from '../judge/check-events.ts';
import { awaitedBy, judgeOutliers, readCreateEventId } from '../judge/judge-outliers.ts';
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
  readonly createEventId: EventId;
  /** The returned state, without what its auth events refuse. */
  readonly stateBefore: SnapshotId;
  /** What may get a place in it later. */
  readonly omissions: Omissions;
  /** Position of the journal before the answer was judged: verdicts may have been read as they were then. */
  readonly since: number;
}

/** An answer that has been received to its end; its events are stored. */
interface ReceivedAnswer {
  readonly omitMembersAsked: boolean;
  readonly header: SendJoinHeader;
  readonly state: readonly AnsweredPdu[];
  readonly authChain: readonly AnsweredPdu[];
  readonly returnedEvent: CheckOutcome | undefined;
  /** Events that did not pass their checks, and are left out. */
  readonly failed: readonly CheckOutcome[];
  /** Those that the state names, whether they passed or not. */
  readonly named: readonly EventId[];
}

/** Events, the join among them, are stored when this returns; nothing is decided yet. @throws RoomError, FederationError */
export async function takeJoinAnswer(
  context: RoomsContext,
  join: SentJoin,
  signal: AbortSignal,
): Promise<TakenJoinAnswer> {
  const received = await receiveAnswer(context, join, signal);
  const verdict = judgeAnswer(context, join, received);
  return storeAnswer(context, join, received, verdict, signal);
}

async function receiveAnswer(context: RoomsContext, join: SentJoin, signal: AbortSignal): Promise<ReceivedAnswer> {
  const { roomId, eventId, event, resident } = join;
  const omitMembersAsked = join.omitMembers && (await mayBePartial(context, roomId));
  const lanes = createLanes(BATCHES_IN_FLIGHT, signal);
  const stream = await context.federation.sendJoin(resident, roomId, eventId, event, {
    signal: lanes.signal,
    omitMembers: omitMembersAsked,
  });
  const failed: CheckOutcome[] = [];
  const take = async (events: readonly Uint8Array[]): Promise<Batch['taken']> => {
    const outcomes = await check(context, join, events, lanes.signal);
    const pdus = passed(outcomes);
    const failures = outcomes.filter(({ outcome }) => outcome !== 'passed' && outcome !== 'skipped');
    failed.push(...failures);
    await insertPdus(context.store, pdus);
    return { pdus: pdus.map(outlineOf), failed: failures.flatMap((failure) => idOf(failure) ?? []) };
  };
  const batches: Batch[] = [];
  try {
    for await (const { array, events } of stream) {
      const batch: Batch = { array, taken: { pdus: [], failed: [] } };
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
    batches.flatMap(({ array, taken }) => (array === of ? taken.pdus : []));
  const state = given('state');
  const named = [
    ...state.filter(({ stateKey }) => stateKey !== null).map(({ eventId }) => eventId),
    ...batches.flatMap(({ array, taken }) => (array === 'state' ? taken.failed : [])),
  ];
  const header = stream.header();
  const [returnedEvent] = header.event === undefined ? [] : await check(context, join, [header.event], signal);
  return { omitMembersAsked, header, state, authChain: given('auth_chain'), returnedEvent, failed, named };
}

function idOf(failure: CheckOutcome): EventId | null {
  return failure.outcome === 'passed' ? failure.pdu.eventId : failure.eventId;
}

/** Some events of one of the answer's arrays. */
interface Batch {
  readonly array: 'state' | 'auth_chain';
  taken: { readonly pdus: readonly AnsweredPdu[]; readonly failed: readonly EventId[] };
}

function judgeAnswer(context: RoomsContext, join: SentJoin, received: ReceivedAnswer): JoinAnswerVerdict {
  const { roomId, eventId, resident, template } = join;
  const { failed } = received;
  const ourselves = context.serverName;
  const verdict = checkJoinAnswer({ template, roomId, joinEventId: eventId, ourselves, resident, ...received });
  if (!verdict.ok) throw unusable(resident, `${oneLine(verdict.reason)} (${verdict.rule})`, failed);
  if (failed.length > 0) {
    context.logger.warn(
      { roomId, resident, failed: failed.length, first: failed[0] },
      'events of the join answer failed their checks and were left out; the resync asks for them again',
    );
  }
  return verdict;
}

async function storeAnswer(
  context: RoomsContext,
  join: SentJoin,
  received: ReceivedAnswer,
  verdict: JoinAnswerVerdict,
  signal: AbortSignal,
): Promise<TakenJoinAnswer> {
  const ours = verdict.joinEvent ?? (await ownEvent(context, join, signal));
  await insertPdus(context.store, [ours]);
  const { membersOmitted, serversInRoom, createEvent } = verdict;
  const since = await readHead(context.store);
  const state = await stateOf(context, join, verdict, received);
  return { membersOmitted, serversInRoom, createEventId: createEvent.eventId, ...state, since };
}

function check(
  context: RoomsContext,
  { roomId, template }: SentJoin,
  events: readonly Uint8Array[],
  signal: AbortSignal,
): Promise<readonly CheckOutcome[]> {
  return checkEvents(context, { roomId, rules: template.rules, events, capReferences: false, signal });
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

/** By the checks that others will make of it. @throws RoomError when it fails them, as one signed with a key that is gone does */
async function ownEvent(context: RoomsContext, join: SentJoin, signal: AbortSignal): Promise<CheckedPdu> {
  const [outcome] = await check(context, join, [Buffer.from(canonicalJson(join.event))], signal);
  if (outcome?.outcome === 'passed') return outcome.pdu;
  const reason = outcome === undefined ? 'nothing is known of it' : describe(outcome);
  throw new RoomError('unusable-answer', `our own join does not pass the checks: ${reason}`);
}

async function stateOf(
  { store }: RoomsContext,
  { roomId, resident, template }: SentJoin,
  verdict: JoinAnswerVerdict,
  { authChain, named }: ReceivedAnswer,
): Promise<Pick<TakenJoinAnswer, 'stateBefore' | 'omissions'>> {
  const given = [...new Set([...verdict.state, ...authChain].map(({ eventId }) => eventId))];
  const judged = await judgeOutliers(store, roomId, template.rules, given, () => undefined);
  const accepted = verdict.state.filter(({ eventId }) => judged.verdictOf(eventId) === 'accepted');
  if (!accepted.some(({ eventId }) => eventId === verdict.createEvent.eventId)) {
    const own = await readCreateEventId(store, await readRoom(store, roomId));
    const { eventId } = verdict.createEvent;
    if (own !== undefined && own !== eventId) throw otherRoom(resident, `the create event ${eventId}`, own);
    throw unusable(resident, 'the create event is refused by the auth rules', []);
  }
  const placed = new Set(accepted.map(({ eventId }) => eventId));
  const leftOut = [...new Set(named)].filter((eventId) => !placed.has(eventId));
  const omissions = { leftOut, awaited: awaitedBy(judged) };
  return { stateBefore: await createSnapshot(store, roomId, [...placed]), omissions };
}

/** The answer of a resident that contradicts what we hold of the room since an earlier stay or join. */
export function otherRoom(resident: ServerName, said: string, held: string): RoomError {
  return new RoomError('unusable-answer', `${resident} tells of another room: of ${said}, and ours is of ${held}`);
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
