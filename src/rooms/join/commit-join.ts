/** The transaction that makes a join ours: it opens the stay, or extends it, and takes the join event in. */
import { type AuthRule } from '../../matrix/auth/auth-verdict.ts';
import { type EventId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { carriedControl, noControl } from '../../resync/control.ts';
import { type Degraded, type LackingBefore, MISSING_LISTED_MAX } from '../../resync/degraded.ts';
import { type ResyncEvent, type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { type Parent, readAssumedGaps, readParents, readPartialAnchors } from '../../store/events/anchors.ts';
import { addChangedSince } from '../../store/events/changed-since.ts';
import { type StoredEventState, readEventStates } from '../../store/events/event-states.ts';
import { recordOmissions } from '../../store/events/left-out.ts';
import { carryGivenUp, countLacking, forgetMissing, readLacking } from '../../store/events/missing-events.ts';
import { deleteJoinIntents } from '../../store/tables/intents.ts';
import { deleteOutside } from '../../store/tables/outside-memberships.ts';
import { append } from '../../store/journal/journal.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { type LockedRoom, createRoom, openEpoch, readResync, readStanding } from '../../store/journal/rooms.ts';
import { countMembers, readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type Admission } from '../judge/admission.ts';
import { readCreateEventId } from '../judge/judge-outliers.ts';
import { RESOLVED_UNDER_LOCK_MS_MAX, requireResolved, resolvingOutside } from '../judge/outside-the-lock.ts';
import { prepareAdmission } from '../judge/prepare-admission.ts';
import { resolveBriefly } from '../judge/resolve-in-time.ts';
import { resolveTogether } from '../judge/resolve.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { type SentJoin, type TakenJoinAnswer, otherRoom } from './join-answer.ts';

export interface AnsweredJoin extends SentJoin {
  readonly userId: UserId;
  readonly answer: TakenJoinAnswer;
  /** Servers that were named for this join; they may be asked for the full state too. */
  readonly via?: readonly ServerName[];
}

export interface CommittedJoin {
  /** The room's workflow has something to fetch. */
  readonly isToRing: boolean;
  /** By which the user is in: the join, or another one of his that the state prefers to it. */
  readonly eventId: EventId;
  readonly partial: boolean;
  readonly membersOmitted: boolean;
}

/** Rules of a membership by which the room itself keeps a user out, as opposed to an answer that makes no sense. */
const KEPT_OUT: ReadonlySet<string> = new Set([
  'join-banned',
  'join-not-invited',
  'join-not-authorised',
  'join-rule-unknown',
  'not-federated',
] satisfies AuthRule[]);

/**
 * Idempotent: a join that is in the timeline of this stay already changes nothing, and is told as joined where the user is in
 * by the current state. Settles all intents of the user.
 *
 * @returns `became-whole` when the room became whole while the resident answered: a whole room never becomes partial again,
 * so the whole state is wanted now.
 * @throws RoomError `forbidden` when the room keeps the user out, `unusable-answer` when the state does not let us in, `busy` where what
 *   the ends of the room resolve to with it takes long again and again
 */
export function commitJoin(context: RoomsContext, join: AnsweredJoin): Promise<CommittedJoin | 'became-whole'> {
  return resolvingOutside(
    () => commitLocked(context, join),
    () => judgeAhead(context, join),
  );
}

/** Judges the join as it will be under the lock, for the states that are at hand then; nothing else comes of it. */
async function judgeAhead({ store }: RoomsContext, join: AnsweredJoin): Promise<void> {
  const { roomId, eventId, template } = join;
  const room = await readStanding(store, roomId);
  if (room === undefined) return;
  const staying = room.epoch > 0 && room.isAnybodyIn;
  const { unknown } = placeOf(join, await readParents(store, roomId, template.prevEventIds), staying);
  const opened = staying ? room : { ...room, extremities: [] };
  await prepareAdmission(store, opened, [eventId], { join: { anchors: unknown }, resolve: resolveTogether });
}

/** @throws ResolutionTakesLong; RoomError */
async function commitLocked(context: RoomsContext, join: AnsweredJoin): Promise<CommittedJoin | 'became-whole'> {
  const { roomId, eventId, userId, template, answer } = join;
  const { membersOmitted } = answer;
  return withTransaction(context.store, async (tx) => {
    let room = await createRoom(tx, roomId, template.rules.version);
    await checkSameRoom(tx, join, room);
    const [known] = (await readEventStates(tx, roomId, [eventId])).values();
    if (known?.epoch === room.epoch) {
      const joinedBy = await joinIn(tx, join, room.currentState, known);
      await deleteJoinIntents(tx, roomId, userId);
      await deleteOutside(tx, roomId, [userId]);
      return { eventId: joinedBy, partial: room.partial, membersOmitted, isToRing: room.partial };
    }
    const staying = room.epoch > 0 && room.isAnybodyIn;
    const parents = await readParents(tx, roomId, template.prevEventIds);
    const place = placeOf(join, parents, staying);
    const partial = place.partial || (staying && room.partial);
    if (partial && staying && !room.partial) return 'became-whole';
    let lacking: LackingBefore | undefined;
    let said: ReturnType<typeof carriedControl> = {};
    // A state that stands for the one at a gap of an earlier stay is looked for on: nobody could ask for it while we were out.
    const reopened = staying ? [] : await readAssumedGaps(tx, roomId);
    if (!staying) {
      const before = await readResync(tx, roomId);
      room = await openEpoch(tx, room);
      lacking = await carryLacking(tx, room, place.standsOnHeld, before?.state.degraded);
      said = carriedControl(before?.state.control ?? noControl);
    }
    // Partial events of an earlier stay are carried along, and need the state before them as the join does.
    const carried = staying ? [] : await readPartialAnchors(tx, roomId);

    const { admissions, entries } = await prepareAdmission(tx, room, [eventId], {
      join: { anchors: place.unknown },
      resolve: resolveBriefly(RESOLVED_UNDER_LOCK_MS_MAX),
    });
    requireResolved(admissions.get(eventId));
    const [entry] = entries;
    if (entry?.type !== 'PduAccepted') throw notLetIn(join, admissions.get(eventId), entry);
    const joinedBy = await joinIn(tx, join, entry.currentState);
    const fetchAt = [...new Set([...place.fetchAt, ...carried])];
    const isPartial = partial || carried.length > 0;
    const standing = {
      ...place,
      partial: isPartial,
      fetchAt,
      staying,
      lacking,
      said,
      reopened,
      after: entry.stateAfter,
    };
    const control = await controlEvents(context, tx, join, room, standing);
    await deleteJoinIntents(tx, roomId, userId);
    await deleteOutside(tx, roomId, [userId]);
    await recordOmitted(tx, join, place);
    await append(tx, room, [...control, entry]);
    const isToRing = isPartial || lacking !== undefined || control.some(({ type }) => type === 'GapOpened');
    return { eventId: joinedBy, partial: isPartial, membersOmitted, isToRing };
  });
}

/**
 * A stay that stands on states of an earlier one lacks what they lack: that is looked for on, and told. One that has its states
 * from residents finds out anew.
 */
async function carryLacking(
  tx: Transaction,
  { roomId, epoch }: LockedRoom,
  standsOnHeld: boolean,
  before: Degraded | null | undefined,
): Promise<LackingBefore | undefined> {
  if (!standsOnHeld) {
    await forgetMissing(tx, roomId);
    return undefined;
  }
  await carryGivenUp(tx, roomId, epoch);
  const [first, ...further] = await readLacking(tx, roomId, { skip: 0, limit: MISSING_LISTED_MAX, ofRoom: true });
  if (first === undefined) return undefined;
  const { ofRoom: count } = await countLacking(tx, roomId);
  const listed = [first, ...further].map(({ eventId, why }) => ({ eventId, why }));
  return { listed, count, fell: before?.fell ?? 0, since: before?.since ?? first.since };
}

/** A room keeps its version and its create event: whoever tells of others tells of another room under the same id. */
async function checkSameRoom(tx: Transaction, join: AnsweredJoin, room: LockedRoom): Promise<void> {
  const { resident, template, answer } = join;
  const { version } = template.rules;
  if (room.roomVersion !== version) throw otherRoom(resident, `version ${version}`, `version ${room.roomVersion}`);
  const own = await readCreateEventId(tx, room);
  if (own === undefined || own === answer.createEventId) return;
  throw otherRoom(resident, `the create event ${answer.createEventId}`, own);
}

/**
 * The join that the user has in the current state. One that passes by the state before it may lose to a ban beside it, which we
 * hold and the resident does not; one that came by push may have been rejected, soft-failed, or followed by a kick.
 *
 * @throws RoomError `forbidden` when there is none
 */
async function joinIn(
  tx: Transaction,
  { roomId, userId, resident }: AnsweredJoin,
  currentState: SnapshotId | null,
  known?: StoredEventState,
): Promise<EventId> {
  const [own] = currentState === null ? [] : await readSnapshot(tx, roomId, currentState, { userIds: [userId] });
  if (own?.membership === 'join') return own.eventId;
  const verdict = known?.verdict === 'rejected' ? `; the join was rejected: ${known.reason} (${known.rule})` : '';
  const membership = own?.membership ?? 'nothing';
  throw new RoomError(
    'forbidden',
    `the room does not let you in, though ${resident} did: in its state you have the membership ${membership}${verdict}`,
  );
}

/** Why a join that was judged is of no use. */
function notLetIn(
  { resident }: AnsweredJoin,
  admission: Admission | undefined,
  entry: TimelineEvent | undefined,
): RoomError {
  if (entry?.type === 'PduRejected') {
    const { rule, reason } = entry;
    if (KEPT_OUT.has(rule)) {
      return new RoomError('forbidden', `the room does not let you in, though ${resident} did: ${reason} (${rule})`);
    }
    return new RoomError('unusable-answer', `the state that ${resident} gave does not let us in: ${reason} (${rule})`);
  }
  const reason = admission && 'reason' in admission ? admission.reason : 'it has no place';
  return new RoomError('unusable-answer', `what ${resident} gave does not let us in: ${reason}`);
}

interface Place {
  readonly partial: boolean;
  /** Parents that we do not hold, as anchors: the state after them is what the resident returned (MSC3706). */
  readonly unknown: readonly Parent[];
  /** Those of them whose state only a resident knows. */
  readonly fetchAt: readonly EventId[];
  /** Some parent is held with its full state. */
  readonly standsOnHeld: boolean;
}

function placeOf({ template, answer }: AnsweredJoin, parents: ReadonlyMap<EventId, Parent>, staying: boolean): Place {
  // What an earlier stay left partial says less than what the resident has just told us.
  const usable = [...parents.values()].filter(({ partial }) => staying || !partial);
  const known = new Set(usable.map(({ eventId }) => eventId));
  const { stateBefore: stateAfter, membersOmitted: partial } = answer;
  const unknown = template.prevEventIds
    .filter((eventId) => !known.has(eventId))
    .map((eventId) => ({ eventId, stateAfter, partial, isAnchor: true, isHistory: false, isRefused: false }));
  const fetchAt = partial ? unknown.map(({ eventId }) => eventId) : [];
  return {
    ...{ unknown, fetchAt },
    partial: fetchAt.length > 0 || usable.some((parent) => parent.partial),
    standsOnHeld: usable.some((parent) => !parent.partial),
  };
}

/** Notes beside the journal what the whole state that the resident gave lacks; a partial one is fetched again. */
async function recordOmitted(tx: Transaction, { roomId, answer }: AnsweredJoin, { unknown }: Place): Promise<void> {
  const { membersOmitted, omissions, since } = answer;
  if (membersOmitted || unknown.length === 0) return;
  for (const { eventId } of unknown) await recordOmissions(tx, roomId, eventId, omissions);
  await addChangedSince(tx, roomId, since, omissions);
}

async function controlEvents(
  context: RoomsContext,
  tx: Transaction,
  { roomId, eventId, userId, resident, template, answer, via = [] }: AnsweredJoin,
  room: LockedRoom,
  place: Place & {
    readonly staying: boolean;
    readonly lacking: LackingBefore | undefined;
    /** What operators have said of the room in the stay before. */
    readonly said: ReturnType<typeof carriedControl>;
    readonly reopened: readonly EventId[];
    readonly after: SnapshotId;
  },
): Promise<ResyncEvent[]> {
  const { serversInRoom, stateBefore } = answer;
  const { fetchAt, unknown, partial, staying } = place;
  const at = context.clock.now();
  const joined = { joinEventId: eventId, userId, joinedVia: resident };
  const learned = { ...joined, serversInRoom, via, fetchAt, stateBefore, at };
  const anchors = unknown.flatMap((parent) => (parent.partial ? [] : [parent.eventId]));
  // Others may build on one of several parents alone: the state after each is asked for, and what was judged by a guess corrected.
  const isGuess = anchors.length > 0 && template.prevEventIds.length > 1;
  const known = { ...joined, anchors, stateBefore, ...(isGuess ? { isGuess } : {}), at };
  const origin = context.serverName;
  const open = [...place.reopened, ...(isGuess ? anchors : [])];
  const gaps: ResyncEvent[] =
    open.length === 0 ? [] : [{ type: 'GapOpened', eventIds: open, origin, assumedState: null, at }];
  const further: ResyncEvent[] = [{ type: 'ParentsLearned', ...known }, ...gaps];
  const parents = anchors.length === 0 ? gaps : further;
  if (staying) return room.partial ? [{ type: 'ResidentsLearned', ...learned }, ...parents] : further;
  const stay = {
    roomVersion: template.rules.version,
    ...place.said,
    ...(place.lacking === undefined ? {} : { lacking: place.lacking }),
  };
  if (partial) return [{ type: 'PartialStateJoined', ...learned, ...stay }, ...parents];
  const members = await countMembers(tx, roomId, place.after);
  return [{ type: 'FullStateJoined', ...known, ...stay, members }, ...gaps];
}
