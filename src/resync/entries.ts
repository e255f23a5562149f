/** The types of the journal's entries, and the stream of each: what those may ask for who follow the journal. */
import { type JournalStream, type ResyncEvent, type TimelineEvent } from './events.ts';

export type JournalEvent = ResyncEvent | TimelineEvent;
export type EntryType = JournalEvent['type'];

type StreamOf<Type extends EntryType> = Type extends TimelineEvent['type'] ? 'timeline' : 'resync';

/** A record, so that a new type of entry does not compile until it is here. */
const STREAMS: { readonly [Type in EntryType]: StreamOf<Type> } = {
  PartialStateJoined: 'resync',
  FullStateJoined: 'resync',
  RoomCreated: 'resync',
  ResidentsLearned: 'resync',
  ParentsLearned: 'resync',
  SpeakersLearned: 'resync',
  StateFetchStarted: 'resync',
  StateFetchFailed: 'resync',
  StateFetchHindered: 'resync',
  StateFetched: 'resync',
  ResidentBack: 'resync',
  RoundFailed: 'resync',
  RoomOrphaned: 'resync',
  ResyncParked: 'resync',
  ResyncResumed: 'resync',
  EventsWalked: 'resync',
  Check6Replayed: 'resync',
  ResyncCompleted: 'resync',
  MissingSought: 'resync',
  JoinRejected: 'resync',
  JoinRestored: 'resync',
  EverybodyLeft: 'resync',
  LeftSilently: 'resync',
  SilentLeaveSettled: 'resync',
  StayEnded: 'resync',
  ResidentPinned: 'resync',
  PinLifted: 'resync',
  ResidentBanned: 'resync',
  BanLifted: 'resync',
  RoomPolicySet: 'resync',
  CommandRefused: 'resync',
  RoomPurged: 'resync',
  GapOpened: 'resync',
  GapClosed: 'resync',
  GapsAssumed: 'resync',
  GapFilled: 'resync',
  GapGivenUp: 'resync',
  AnchorCorrected: 'resync',
  EventsCorrected: 'resync',
  PduAccepted: 'timeline',
  PduRejected: 'timeline',
  EventUnPartialStated: 'timeline',
  EventSoftFailed: 'timeline',
  SoftFailureLifted: 'timeline',
  VerdictChanged: 'timeline',
  StatesChanged: 'timeline',
  CurrentStateResolved: 'timeline',
};

/** Every type, in the order of the vocabulary. */
export const ENTRY_TYPES: readonly EntryType[] = Object.keys(STREAMS) as EntryType[];

/** The stream of its room that an entry belongs to. */
export function streamOf({ type }: JournalEvent): JournalStream {
  return STREAMS[type];
}

/** Whether an entry is a verdict, or the current state that came of verdicts. */
export function isTimelineEvent(event: JournalEvent): event is TimelineEvent {
  return streamOf(event) === 'timeline';
}

/** An event of ours that was accepted, and is for other servers to get from us. */
export type OutgoingEntry = Extract<TimelineEvent, { readonly type: 'PduAccepted' }>;

/** Whether the entry takes in what other servers are to get from us. */
export function isOutgoing(event: JournalEvent): event is OutgoingEntry {
  return event.type === 'PduAccepted' && event.outgoing === true;
}
