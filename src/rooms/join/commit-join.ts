/** The transaction that makes a join ours: it opens the stay, or extends it, and takes the join event in. */
import { type EventId, type UserId } from '../../matrix/identifiers.ts';
import { type ResyncEvent, type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { type Parent, readParents, readPartialAnchors } from '../../store/events/anchors.ts';
import { readEventStates } from '../../store/events/event-states.ts';
import { deleteJoinIntent } from '../../store/tables/intents.ts';
import { append } from '../../store/journal/journal.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { type LockedRoom, createRoom, isAnybodyIn, openEpoch } from '../../store/journal/rooms.ts';
import { countMembers } from '../../store/snapshots/snapshots.ts';
import { type Admission } from '../judge/admission.ts';
import { prepareAdmission } from '../judge/prepare-admission.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { type SentJoin, type TakenJoinAnswer } from './join-answer.ts';

export interface AnsweredJoin extends SentJoin {
  readonly userId: UserId;
  readonly answer: TakenJoinAnswer;
}

export interface CommittedJoin {
  readonly partial: boolean;
  readonly membersOmitted: boolean;
}

/** Idempotent: a join that is in the timeline of this stay already changes nothing. */
export async function commitJoin(context: RoomsContext, join: AnsweredJoin): Promise<CommittedJoin> {
  const { roomId, eventId, template, answer } = join;
  const { membersOmitted } = answer;
  return withTransaction(context.store, async (tx) => {
    let room = await createRoom(tx, roomId, template.rules.version);
    const [known] = (await readEventStates(tx, roomId, [eventId])).values();
    if (known?.epoch === room.epoch) {
      await deleteJoinIntent(tx, eventId);
      return { partial: room.partial, membersOmitted };
    }
    const staying = room.epoch > 0 && (await isAnybodyIn(tx, roomId));
    if (!staying) room = await openEpoch(tx, room);
    // Partial events of an earlier stay are carried along, and need the state before them as the join does.
    const carried = staying ? [] : await readPartialAnchors(tx, roomId);

    const parents = await readParents(tx, roomId, template.prevEventIds);
    const place = placeOf(join, parents, staying);
    const partial = place.partial || (staying && room.partial);
    if (partial && staying && !room.partial) {
      // The room became whole while the resident answered; a whole room never becomes partial again.
      throw new RoomError('busy', `${roomId} has just become whole; join again`);
    }

    const { admissions, entries } = await prepareAdmission(tx, room, [eventId], { anchors: place.unknown });
    const [entry] = entries;
    if (entry?.type !== 'PduAccepted') {
      throw new RoomError(
        'unusable-answer',
        `the state that ${join.resident} gave does not let us in: ${whyNot(admissions.get(eventId), entry)}`,
      );
    }
    const fetchAt = [...new Set([...place.fetchAt, ...carried])];
    const standing = { ...place, partial: partial || carried.length > 0, fetchAt, staying, after: entry.stateAfter };
    const control = await controlEvent(context, tx, join, room, standing);
    await append(tx, room, [...control, entry]);
    await deleteJoinIntent(tx, eventId);
    return { partial: standing.partial, membersOmitted };
  });
}

interface Place {
  readonly partial: boolean;
  /** Parents that we do not hold, as anchors: the state after them is what the resident returned (MSC3706). */
  readonly unknown: readonly Parent[];
  /** Those of them whose state only a resident knows. */
  readonly fetchAt: readonly EventId[];
}

function placeOf({ template, answer }: AnsweredJoin, parents: ReadonlyMap<EventId, Parent>, staying: boolean): Place {
  // What an earlier stay left partial says less than what the resident has just told us.
  const usable = [...parents.values()].filter(({ partial }) => staying || !partial);
  const known = new Set(usable.map(({ eventId }) => eventId));
  const { stateBefore: stateAfter, membersOmitted: partial } = answer;
  const unknown = template.prevEventIds
    .filter((eventId) => !known.has(eventId))
    .map((eventId) => ({ eventId, stateAfter, partial, isAnchor: true, isRefused: false }));
  const fetchAt = partial ? unknown.map(({ eventId }) => eventId) : [];
  return { unknown, fetchAt, partial: fetchAt.length > 0 || usable.some((parent) => parent.partial) };
}

/** Why a join that was judged is of no use. */
function whyNot(admission: Admission | undefined, entry: TimelineEvent | undefined): string {
  if (entry?.type === 'PduRejected') return `${entry.reason} (${entry.rule})`;
  return admission && 'reason' in admission ? admission.reason : 'it has no place';
}

async function controlEvent(
  context: RoomsContext,
  tx: Transaction,
  { roomId, eventId, userId, resident, template, answer }: AnsweredJoin,
  room: LockedRoom,
  place: Place & { readonly staying: boolean; readonly after: SnapshotId },
): Promise<ResyncEvent[]> {
  const { serversInRoom, stateBefore } = answer;
  const { fetchAt, unknown, partial, staying } = place;
  const at = context.clock.now();
  const joined = { joinEventId: eventId, userId, joinedVia: resident };
  if (staying) {
    return room.partial ? [{ type: 'ResidentsLearned', ...joined, serversInRoom, fetchAt, stateBefore, at }] : [];
  }
  const roomVersion = template.rules.version;
  if (partial) return [{ type: 'PartialStateJoined', ...joined, roomVersion, serversInRoom, fetchAt, stateBefore, at }];
  const members = await countMembers(tx, roomId, place.after);
  const anchors = unknown.map((parent) => parent.eventId);
  return [{ type: 'FullStateJoined', ...joined, roomVersion, anchors, stateBefore, members, at }];
}
