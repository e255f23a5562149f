/**
 * The journal's vocabulary: everything Rejoinder decides about a room, past tense, in one file. A room has two streams:
 * `resync` (control) and `timeline` (verdicts on events). Every projection is a fold of these and of the immutable PDUs
 * and snapshot chunks; nothing here is ever a row for each member.
 *
 * Times are absolute milliseconds since the Unix epoch, journalled by whoever decided them.
 */
import { type EventId, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import {
  type AttemptCost,
  type AttemptOutcome,
  type ChosenBecause,
  type ParkedBecause,
  type StateComparison,
} from './attempts.ts';
import { type RoomControl } from './control.ts';
import { type LackingBefore, type MissingEvents, type UnusableEvents } from './degraded.ts';
import { type OperatorEvent } from './operator-events.ts';

/** 32 lower-case hex digits: the content hash of a snapshot's root chunk. */
export type SnapshotId = string & { readonly __snapshot: never };

/** What a failed request or an unusable answer means for the choice of the next resident. */
export type FailureClass =
  | 'unreachable'
  | 'timeout'
  | 'rate-limited'
  | 'server-error'
  /** It may not be: we, or the user, lack the right to it. */
  | 'forbidden'
  /** It does not do it, for a reason that is no want of a right: `errcode` says more. */
  | 'refused'
  /** The room is of a version that was not offered. */
  | 'incompatible-version'
  | 'not-found'
  | 'partial-state-there'
  | 'too-large'
  | 'malformed'
  | 'incomplete'
  /** All that the answer lacks came, signed with keys that cannot be had. */
  | 'keys-unobtainable'
  /** Servers that were compared gave states that cannot be made one. */
  | 'contradictory'
  /** It was begun again and again, and nothing new was stored in between: whatever it is, it does not end. */
  | 'abandoned'
  | 'refused-by-policy';

/** Counts of one completed fetch. */
export interface StateFetchCounts {
  /** Events named by `/state_ids` as the state. */
  readonly state: number;
  /** Events named as the auth chain. */
  readonly authChain: number;
  /** Joined members in the state. */
  readonly members: number;
  /** Events taken from this resident. */
  readonly fetched: number;
  /** Events that were stored before. */
  readonly alreadyHeld: number;
  /** Events refused: wrong room, duplicate, bad signature, rejected by auth. */
  readonly dropped: number;
  /** Of these, those of which every copy that came was bad; absent: none. */
  readonly unusable?: UnusableEvents;
}

/** The `resync` stream. */
export type ResyncEvent =
  | OperatorEvent
  | {
      readonly type: 'PartialStateJoined';
      readonly joinEventId: EventId;
      readonly userId: UserId;
      readonly roomVersion: string;
      readonly joinedVia: ServerName;
      /** Hint of a stranger: grammar-checked, deduplicated, capped; holds `joinedVia`, never ourselves. */
      readonly serversInRoom: readonly ServerName[];
      /** Where the state is asked for: prev_events of the join that we do not hold with full state. They become anchors. */
      readonly fetchAt: readonly EventId[];
      /** The state that the resident returned: after these anchors, as far as it is known. */
      readonly stateBefore: SnapshotId;
      /** As in `FullStateJoined`. */
      readonly lacking?: LackingBefore;
      /** Servers that the user named; absent: none. */
      readonly via?: readonly ServerName[];
      /** What operators have said of the room in earlier stays; absent: nothing. */
      readonly control?: RoomControl;
      readonly at: number;
    }
  | {
      /** A resident ignored `omit_members`, or we were already in: nothing is missing. */
      readonly type: 'FullStateJoined';
      readonly joinEventId: EventId;
      readonly userId: UserId;
      readonly roomVersion: string;
      readonly joinedVia: ServerName;
      /** Prev_events of the join that we do not hold: the state after them is what the resident returned. */
      readonly anchors: readonly EventId[];
      readonly stateBefore: SnapshotId;
      /** The join has several parents: the state before it is what those after them resolve to, and only a guess for each. */
      readonly isGuess?: true;
      /** Absent where the join stands on no state that was had with something missing. */
      readonly lacking?: LackingBefore;
      /** As in `PartialStateJoined`. */
      readonly control?: RoomControl;
      readonly members: number;
      readonly at: number;
    }
  | {
      /** One of our users made the room: nobody has to be asked about it. */
      readonly type: 'RoomCreated';
      readonly createEventId: EventId;
      readonly userId: UserId;
      readonly roomVersion: string;
      readonly at: number;
    }
  | {
      /** A further local user joined the partial room; the second answer's servers refresh the candidates. */
      readonly type: 'ResidentsLearned';
      readonly joinEventId: EventId;
      readonly userId: UserId;
      readonly joinedVia: ServerName;
      readonly serversInRoom: readonly ServerName[];
      /** Prev_events of this join that we hold no state for; they become anchors and are fetched too. */
      readonly fetchAt: readonly EventId[];
      /** As in `PartialStateJoined`. */
      readonly stateBefore: SnapshotId;
      readonly via?: readonly ServerName[];
      readonly at: number;
    }
  | {
      /** A further local user joined: the whole state before the join came with it, into a stay that goes on. */
      readonly type: 'ParentsLearned';
      readonly joinEventId: EventId;
      readonly userId: UserId;
      readonly joinedVia: ServerName;
      /** As in `FullStateJoined`, and maybe none: others may build on these parents too. */
      readonly anchors: readonly EventId[];
      readonly stateBefore: SnapshotId;
      readonly isGuess?: true;
      readonly at: number;
    }
  | {
      /** Servers that were not known to be in the room have spoken in it. */
      readonly type: 'SpeakersLearned';
      readonly servers: readonly ServerName[];
      readonly at: number;
    }
  | {
      readonly type: 'StateFetchStarted';
      readonly attemptNo: number;
      readonly resident: ServerName;
      readonly atEventId: EventId;
      /** Nobody knows `atEventId`: the state before the join that cites it is asked for, and stands for the state after it. */
      readonly atJoin?: boolean;
      /** Absent in entries from before it was kept. */
      readonly because?: ChosenBecause;
      readonly at: number;
    }
  | ({
      readonly type: 'StateFetchFailed';
      readonly attemptNo: number;
      readonly resident: ServerName;
      readonly atEventId: EventId;
      readonly failure: FailureClass;
      /** What that means; absent in old entries, whose failure says it. */
      readonly outcome?: AttemptOutcome;
      /** One line for a person; control characters removed, capped. */
      readonly reason: string;
      /** The earliest time this resident wants to be asked again, when it said so. */
      readonly retryAt?: number;
      readonly at: number;
    } & AttemptCost)
  | {
      /** Trouble of ours kept an attempt from its end: it goes on, at the same resident. Journalled once for an attempt. */
      readonly type: 'StateFetchHindered';
      readonly attemptNo: number;
      readonly resident: ServerName;
      readonly reason: string;
      readonly at: number;
    }
  | ({
      readonly type: 'StateFetched';
      readonly attemptNo: number;
      readonly resident: ServerName;
      readonly atEventId: EventId;
      /** The state before `atEventId`, with the event itself added where it is an accepted state event. */
      readonly snapshotId: SnapshotId;
      readonly counts: StateFetchCounts;
      /** SHA-256, hex, of the sorted event ids of the state, one a line: two servers compare it. */
      readonly digest: string;
      /** Present when the state could not be had whole. */
      readonly missing?: MissingEvents;
      /** Absent: no other server was asked. */
      readonly compared?: StateComparison;
      /** Anchors without full state beyond those that the state of the resync has places for. */
      readonly further?: readonly EventId[];
      readonly at: number;
    } & AttemptCost)
  | {
      /** A server of the room can be reached again, or has sent something for it: a room that waits asks it, and it alone. */
      readonly type: 'ResidentBack';
      readonly resident: ServerName;
      readonly because: 'answers' | 'sent';
      readonly at: number;
    }
  | {
      /** Every candidate failed in this round. */
      readonly type: 'RoundFailed';
      readonly round: number;
      readonly wakeAt: number;
      readonly reason: string;
      /** Others of those said to be in the room, to be asked in the place of the hints of this round. */
      readonly hints?: readonly ServerName[];
      /** Candidates whose members have all left, as far as we know any; absent: none. */
      readonly left?: readonly ServerName[];
      /** Every server that was believed to be in the room has left it so; absent: not so. */
      readonly isOrphaned?: true;
      readonly at: number;
    }
  | {
      /**
       * No server is left in the room but this one, and none of those that left gave the state: what is known of it stands for all of
       * it at these events, and the room is completed as degraded.
       */
      readonly type: 'RoomOrphaned';
      readonly eventIds: readonly EventId[];
      readonly assumedState: SnapshotId;
      readonly at: number;
    }
  | {
      /** Residents are asked no more until somebody resumes it, or there is something new to go by: the room stays partial. */
      readonly type: 'ResyncParked';
      readonly because: ParkedBecause;
      /** One line for a person, with figures where it is about a limit. */
      readonly reason: string;
      /** Our users are to leave the room; absent: they stay. */
      readonly leaves?: true;
      readonly at: number;
    }
  | {
      /** Somebody wants residents to be asked again now, whatever was waited for; of a degraded room what it lacks. */
      readonly type: 'ResyncResumed';
      /** As in what operators decide; absent: nobody said. */
      readonly by?: string;
      readonly reason?: string;
      readonly at: number;
    }
  | {
      readonly type: 'EventsWalked';
      readonly walked: number;
      readonly corrected: number;
      readonly remaining: number;
      readonly at: number;
    }
  | {
      /** Progress: check 6 was made again for what was taken in while the room was partial, up to here; at its end the room completes. */
      readonly type: 'Check6Replayed';
      /** Of the journal entry that took the last event in that was gone through. */
      readonly position: number;
      /** Of the room, for which it holds: what reverses a verdict, or changes a state, makes it void. */
      readonly stateVersion: number;
      /** How often it was begun, since such changes came. */
      readonly begun: number;
      /** With this entry. */
      readonly softFailed: number;
      /** With this entry, of those that were soft-failed when it was made before. */
      readonly lifted: number;
      readonly at: number;
    }
  | {
      readonly type: 'ResyncCompleted';
      readonly members: number;
      /** How many events of the state could not be had; absent: the room is whole. */
      readonly lacking?: number;
      /**
       * Corrections that were due still; absent: none. By what they may change no join of ours is told as failed and no stay ends: that is
       * told once they are through.
       */
      readonly remaining?: number;
      readonly at: number;
    }
  | {
      /** What a state lacks was asked for once more. What is found is stored and judged, and put in its place as a correction. */
      readonly type: 'MissingSought';
      readonly found: number;
      /** Those that were found; absent: none, or an entry from before they were named. */
      readonly foundIds?: readonly EventId[];
      /** Still missing. */
      readonly left: number;
      /** And of what only states at gaps lack; absent: nothing, or it is looked for no more. */
      readonly leftAtGaps?: number;
      /** When it is asked for next; `null`: nothing is left that is looked for. */
      readonly wakeAt: number | null;
      readonly at: number;
    }
  | {
      /** A join of ours that the full state refuses: it has failed, though a resident let it in. */
      readonly type: 'JoinRejected';
      readonly joinEventId: EventId;
      readonly userId: UserId;
      readonly rule: string;
      readonly reason: string;
      readonly at: number;
    }
  | {
      /**
       * A join of ours that was told as rejected is accepted after all, in a stay that went on for others of us. A stay that has
       * ended is not taken up again: what came since was not taken in, and whoever wants in joins anew.
       */
      readonly type: 'JoinRestored';
      readonly joinEventId: EventId;
      readonly userId: UserId;
      readonly at: number;
    }
  | {
      /** The last of our users has left a partial room. Residents are asked for one more round, and then the stay ends. */
      readonly type: 'EverybodyLeft';
      /** When it ends at the latest, but for the walk of a state that was had by then. */
      readonly until: number;
      /** Those that do not refuse are asked in further rounds until then. */
      readonly goesOn?: true;
      /** When the room is purged, unless somebody of us joins it before; absent: it is not. */
      readonly purgeAt?: number;
      readonly at: number;
    }
  | {
      /** The last of our users has left a partial room here; the leave is made when the resync is done. */
      readonly type: 'LeftSilently';
      readonly userId: UserId;
      readonly at: number;
    }
  | {
      /** No leave is to be made for him any more: he is back, or out by an event of the room, his own leave or another's. */
      readonly type: 'SilentLeaveSettled';
      readonly userId: UserId;
      readonly because: 'returned' | 'out';
      readonly at: number;
    }
  | {
      /** Nobody of us is in the room any more: there is nothing left to make whole. A room that everybody left while it was partial stays so. */
      readonly type: 'StayEnded';
      readonly because: 'join-rejected' | 'left';
      readonly at: number;
    }
  | {
      /**
       * All that was held of the room is deleted, but for this entry: it stands for the last stay, and a later one goes on from it. What
       * the journal said of the room before is no more.
       */
      readonly type: 'RoomPurged';
      readonly purgeId: string;
      /** Users of ours who were in the room, or had been once: their clients are told that they are out. */
      readonly users: readonly UserId[];
      /** Of these, those who were in it until the purge. */
      readonly putOut: readonly UserId[];
      /** Entries of the journal that are no more. */
      readonly entries: number;
      /** No event of the room has a number up to this one any more. */
      readonly eventsTo: number;
      readonly requestedAt: number;
      readonly at: number;
    }
  | {
      /** Events of the room cite these, and nobody gave us what lies before them: only a resident knows the state there. */
      readonly type: 'GapOpened';
      readonly eventIds: readonly EventId[];
      /** Who sent the events that cite them. */
      readonly origin: ServerName;
      /** What stands for the state after them until it is known, in a partial room; `null` in a whole one, which waits. */
      readonly assumedState: SnapshotId | null;
      readonly at: number;
    }
  | {
      /** The state at one missing event is known: events may build on it. */
      readonly type: 'GapClosed';
      readonly eventId: EventId;
      readonly resident: ServerName;
      /** The state after `eventId`. */
      readonly snapshotId: SnapshotId;
      readonly counts: StateFetchCounts;
      /** As in `StateFetched`, both. */
      readonly digest: string;
      /** What several servers name, or all that are known: the room lacks it. */
      readonly missing?: MissingEvents;
      /** What the state here lacks by the word of fewer. */
      readonly lackedHere?: MissingEvents;
      readonly at: number;
    }
  | {
      /** All else is judged: this state stands for the one at gaps that are still open, so that the room need not wait for them. */
      readonly type: 'GapsAssumed';
      readonly eventIds: readonly EventId[];
      readonly assumedState: SnapshotId;
      readonly at: number;
    }
  | {
      /** The missing event came, with parents that we hold: it has its place, and nobody need be asked. */
      readonly type: 'GapFilled';
      readonly eventId: EventId;
      /** Present when the gap was given up before: it was open no longer. */
      readonly wasGivenUp?: boolean;
      readonly at: number;
    }
  | {
      /** Nobody who may be asked has the state at it: what builds on it alone cannot be had. */
      readonly type: 'GapGivenUp';
      readonly eventId: EventId;
      readonly reason: string;
      readonly at: number;
    }
  | {
      /**
       * The state after an anchor is another than a resident's answer had made it: events that the answer names were found,
       * or the verdict on them is another now. What builds on the anchor is looked at again.
       */
      readonly type: 'AnchorCorrected';
      readonly eventId: EventId;
      readonly was: SnapshotId;
      readonly snapshotId: SnapshotId;
      readonly because: 'found' | 'verdict-changed';
      /** State events of the answer that are in the state now, and were not. */
      readonly putIn: readonly EventId[];
      /** Those that were in it, and are rejected now, or whose place the anchor's own event has taken. */
      readonly takenOut: readonly EventId[];
      /** Position of the entry that made it due. */
      readonly cause: number;
      readonly at: number;
    }
  | {
      /** Progress: events were looked at again, since something that they build on had changed. */
      readonly type: 'EventsCorrected';
      readonly judged: number;
      /** Of these, those that got another verdict or other states. */
      readonly changed: number;
      /** Events known to be looked at yet; each may make others due. */
      readonly remaining: number;
      /** Joined members in the current state; given when nothing remains. */
      readonly members?: number;
      readonly at: number;
    };

/** Who gave us an event, and when; absent where it is our own, came with a join, or was taken in before this was kept. */
export interface Receipt {
  readonly server: ServerName;
  readonly at: number;
}

/** The `timeline` stream. `authState` are the events that a verdict was made by, at most 12; absent in old entries. `currentState` is the room's state after the entry: the fold of the extremities needs it. */
export type TimelineEvent =
  | {
      readonly type: 'PduAccepted';
      readonly eventId: EventId;
      readonly partial: boolean;
      readonly softFailed: boolean;
      readonly stateBefore: SnapshotId;
      readonly stateAfter: SnapshotId;
      readonly currentState: SnapshotId;
      readonly authState?: readonly EventId[];
      readonly from?: Receipt;
      /** Ours, and for the other servers of the room to get from us. */
      readonly outgoing?: true;
    }
  | {
      readonly type: 'PduRejected';
      readonly eventId: EventId;
      readonly partial: boolean;
      readonly stateBefore: SnapshotId;
      readonly rule: string;
      readonly reason: string;
      readonly authState?: readonly EventId[];
      readonly from?: Receipt;
    }
  | {
      readonly type: 'EventUnPartialStated';
      readonly eventId: EventId;
      readonly stateBefore: SnapshotId;
      readonly stateAfter: SnapshotId;
      readonly was: 'accepted' | 'rejected';
      readonly is: 'accepted' | 'rejected';
      /** Present when `is` is `rejected`. */
      readonly rule?: string;
      readonly reason?: string;
      readonly authState?: readonly EventId[];
    }
  | {
      /**
       * Check 6, which a partial room does not make on receipt, was made at its completion, by the current state at the event's
       * place in the journal. The event stays accepted, is no extremity any more, and is not shown to who has not seen it.
       */
      readonly type: 'EventSoftFailed';
      readonly eventId: EventId;
      readonly rule: string;
      readonly reason: string;
      readonly authState: readonly EventId[];
    }
  | {
      /** Check 6 was begun again, since something below had changed, and passes an event that it had soft-failed. */
      readonly type: 'SoftFailureLifted';
      readonly eventId: EventId;
    }
  | {
      /**
       * An event that was judged for good has another verdict, since something that it rests on has one, or another state. Of an
       * outlier there are no states. Journalled once for an event and a cause.
       */
      readonly type: 'VerdictChanged';
      readonly eventId: EventId;
      readonly was: 'accepted' | 'rejected';
      readonly is: 'accepted' | 'rejected';
      /** Position of the entry that made it due. */
      readonly cause: number;
      /** The event, or the anchor, whose change directly led to it. */
      readonly through?: EventId;
      readonly stateBefore?: SnapshotId;
      readonly stateAfter?: SnapshotId;
      /** Present when `is` is `rejected`. */
      readonly rule?: string;
      readonly reason?: string;
      readonly authState?: readonly EventId[];
      /** Present when the events that build on the state after it were looked at together with it. */
      readonly followed?: true;
    }
  | {
      /** Events keep their verdict, and the states before and after them are others now: these, for all of them. */
      readonly type: 'StatesChanged';
      readonly eventIds: readonly EventId[];
      readonly stateBefore: SnapshotId;
      readonly stateAfter: SnapshotId;
      /** As in `VerdictChanged`. */
      readonly cause: number;
      readonly followed?: true;
    }
  | {
      /** The current state was worked out again from full states, at completion or after a correction. */
      readonly type: 'CurrentStateResolved';
      readonly currentState: SnapshotId;
    };

export type JournalStream = 'resync' | 'timeline';

/** A row of the journal. `position` is global and rises in commit order; `seq` counts within room and stream. */
export interface Journalled<E extends ResyncEvent | TimelineEvent = ResyncEvent | TimelineEvent> {
  readonly position: number;
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly stream: JournalStream;
  readonly seq: number;
  readonly event: E;
}
