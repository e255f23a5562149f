/**
 * The fold of what changed after it had been judged: for each such event or anchor a row, written with the entries. What builds
 * on it is worked out later and outside the room's lock (src/rooms/resync/correct-events.ts), so that an append costs what it says
 * and not what follows from it.
 */
import { type EventId } from '../../matrix/identifiers.ts';
import { type ResyncEvent, type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { type LockedRoom } from './rooms.ts';

/** The name of the current state among the things that are to be corrected; no event has it. */
export const CURRENT_STATE = '' as EventId;

/** Something that changed, by the entry with this index in its append. */
export interface Change {
  readonly eventId: EventId;
  readonly entry: number;
  /** Its verdict is another, or a first one that was waited for. */
  readonly verdict: boolean;
  /** The state after it is another. */
  readonly states: boolean;
  /** The entry by which a guess about it ended, whether or not the state is another. */
  readonly guessEnded: number | null;
}

/** What was known before the append. */
export interface KnownBefore {
  /** State events among those that entries name, each with the verdict on it as an outlier. */
  readonly stateEvents: ReadonlyMap<EventId, OutlierBefore>;
  /** Anchors whose state nobody had told. */
  readonly assumed: ReadonlySet<EventId>;
  /** Anchors with a full state, with that state. */
  readonly anchors: ReadonlyMap<EventId, SnapshotId>;
}

export interface OutlierBefore {
  readonly verdict: 'accepted' | 'rejected' | null;
  /** States lack it, or events that they name wait for it. */
  readonly isAwaited: boolean;
}

/** What these entries change of what others rest on. A message changes nothing for anybody. */
export function changesOf(
  room: LockedRoom,
  entries: readonly (ResyncEvent | TimelineEvent)[],
  known: KnownBefore,
): Change[] {
  const changes = new Map<EventId, Change>();
  const add = (
    eventId: EventId,
    entry: number,
    what: { readonly verdict: boolean; readonly states: boolean; readonly guessEnded?: number },
  ): void => {
    const before = changes.get(eventId);
    const verdict = what.verdict || before?.verdict === true;
    const states = what.states || before?.states === true;
    changes.set(eventId, {
      eventId,
      entry,
      verdict,
      states,
      guessEnded: what.guessEnded ?? before?.guessEnded ?? null,
    });
  };
  const isNews = (eventId: EventId, is: 'accepted' | 'rejected'): boolean => {
    const outlier = known.stateEvents.get(eventId);
    return outlier !== undefined && (outlier.isAwaited || (outlier.verdict !== null && outlier.verdict !== is));
  };
  for (const [i, event] of entries.entries()) {
    switch (event.type) {
      case 'PduAccepted':
      case 'PduRejected': {
        const is = event.type === 'PduAccepted' ? 'accepted' : 'rejected';
        const isAwaited = known.stateEvents.get(event.eventId)?.isAwaited === true;
        // A provisional verdict is none that others are judged again for; the one that counts comes.
        if (event.partial ? isAwaited : isNews(event.eventId, is)) {
          add(event.eventId, i, { verdict: true, states: true });
        }
        break;
      }
      case 'EventUnPartialStated':
        if (isNews(event.eventId, event.is) || (event.was !== event.is && known.stateEvents.has(event.eventId))) {
          add(event.eventId, i, { verdict: true, states: true });
        }
        break;
      case 'VerdictChanged': {
        const states = event.stateAfter !== undefined && event.followed !== true;
        if (known.stateEvents.has(event.eventId)) add(event.eventId, i, { verdict: true, states });
        break;
      }
      case 'StatesChanged':
        if (event.followed !== true) for (const id of event.eventIds) add(id, i, { verdict: false, states: true });
        break;
      case 'AnchorCorrected':
        add(event.eventId, i, { verdict: false, states: true });
        break;
      case 'GapClosed':
      case 'GapFilled':
        if (known.assumed.has(event.eventId)) add(event.eventId, i, { verdict: false, states: true, guessEnded: i });
        break;
      case 'MissingSought':
        for (const id of event.foundIds ?? []) add(id, i, { verdict: true, states: false });
        break;
      case 'ResyncCompleted':
        // By what is due still nothing was told of our joins.
        if (event.remaining !== undefined) add(CURRENT_STATE, i, { verdict: false, states: false });
        break;
      case 'PartialStateJoined':
      case 'FullStateJoined':
      case 'RoomCreated':
      case 'ResidentsLearned':
      case 'ParentsLearned':
      case 'SpeakersLearned':
      case 'StateFetchStarted':
      case 'StateFetchFailed':
      case 'StateFetchHindered':
      case 'StateFetched':
      case 'ResidentBack':
      case 'RoundFailed':
      case 'ResyncParked':
      case 'ResyncResumed':
      case 'EventsWalked':
      case 'Check6Replayed':
      case 'EventsCorrected':
      case 'JoinRejected':
      case 'JoinRestored':
      case 'EverybodyLeft':
      case 'StayEnded':
      case 'RoomPurged':
      case 'LeftSilently':
      case 'SilentLeaveSettled':
      case 'GapOpened':
      case 'GapsAssumed':
      case 'RoomOrphaned':
      case 'GapGivenUp':
      case 'EventSoftFailed':
      case 'SoftFailureLifted':
      case 'CurrentStateResolved':
      case 'ResidentPinned':
      case 'PinLifted':
      case 'ResidentBanned':
      case 'BanLifted':
      case 'RoomPolicySet':
      case 'CommandRefused':
        break;
    }
    const placed = placeOf(event);
    if (placed !== undefined && isMoved(placed, known)) add(placed.eventId, i, { verdict: false, states: true });
    if (!room.partial && isCorrection(event, known)) add(CURRENT_STATE, i, { verdict: false, states: false });
  }
  return [...changes.values()];
}

/** Whether what was worked out before this entry may be void: verdicts, or states that events build on, are others now. */
export function movesStateVersion(
  event: ResyncEvent | TimelineEvent,
  known: Pick<KnownBefore, 'anchors' | 'assumed'>,
): boolean {
  if (event.type === 'EventUnPartialStated') return event.was !== event.is || isMoved(event, known);
  if (event.type === 'EventsCorrected') return event.changed > 0;
  // A further anchor has its state: who looked at all of them has not seen it.
  if (event.type === 'StateFetched' || event.type === 'GapClosed') return true;
  return event.type === 'ResyncCompleted' || event.type === 'StayEnded' || isCorrection(event, known);
}

/** An event that has its place in the timeline, with the full state after it. */
export interface PlacedEvent {
  readonly eventId: EventId;
  readonly stateAfter: SnapshotId;
}

/** The event that has its place, and its full state, with this entry. */
export function placeOf(event: ResyncEvent | TimelineEvent): PlacedEvent | undefined {
  if (event.type === 'EventUnPartialStated') return event;
  if (event.type === 'PduAccepted') return event.partial ? undefined : event;
  if (event.type !== 'PduRejected' || event.partial) return undefined;
  return { eventId: event.eventId, stateAfter: event.stateBefore };
}

/**
 * Whether another state than this stood for it, while it was an anchor. Where that was a guess, the entry that fills the gap says
 * so already.
 */
function isMoved(
  { eventId, stateAfter }: PlacedEvent,
  { anchors, assumed }: Pick<KnownBefore, 'anchors' | 'assumed'>,
): boolean {
  return !assumed.has(eventId) && (anchors.get(eventId) ?? stateAfter) !== stateAfter;
}

function isCorrection(event: ResyncEvent | TimelineEvent, known: Pick<KnownBefore, 'anchors' | 'assumed'>): boolean {
  const { assumed } = known;
  const placed = placeOf(event);
  if (placed !== undefined && isMoved(placed, known)) return true;
  if (event.type === 'GapClosed' || event.type === 'GapFilled') return assumed.has(event.eventId);
  if (event.type === 'MissingSought') return (event.foundIds?.length ?? 0) > 0;
  return event.type === 'VerdictChanged' || event.type === 'StatesChanged' || event.type === 'AnchorCorrected';
}
