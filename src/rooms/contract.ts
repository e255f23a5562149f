/** What may be asked of rooms and what they answer; shapes only, for the use cases and the edges that offer them. */
import { type Cancellation } from '../cancellation.ts';
import { type EventId, type RoomAlias, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type EduType } from '../matrix/transactions.ts';
import { type EntryType } from '../resync/entries.ts';
import { type Journalled, type ResyncEvent } from '../resync/events.ts';
import { type OperatorEvent } from '../resync/operator-events.ts';
import { type ResyncState } from '../resync/state.ts';
import { type Backlog, type DroppedEvent, type WaitingEvent } from '../store/tables/staged-reads.ts';
import { type CorrectionsDue } from '../store/events/corrections.ts';
import { type Gap } from '../store/events/gaps.ts';
import { type MissingEvent } from '../store/events/missing-events.ts';
import { type OpenIntent } from '../store/tables/intents.ts';
import { type JournalPage, type RecordedEntry } from '../store/journal/journal-pages.ts';
import { type RoomProgress } from './resync/fetch-progress.ts';

export interface JoinRequest {
  readonly room: RoomId | RoomAlias;
  readonly userId: UserId;
  /** Servers to ask first, in this order. */
  readonly via: readonly ServerName[];
  /** False: a classic join, which asks for the whole state at once. True where absent. */
  readonly omitMembers?: boolean;
  /** What the join says of the user: `displayname` and `avatar_url`. */
  readonly profile?: JsonObject | undefined;
  /** Aborted when the caller has gone away. */
  readonly signal: AbortSignal;
}

export interface JoinedRoom {
  readonly roomId: RoomId;
  readonly eventId: EventId;
  readonly joinedVia: ServerName;
  /** The room's memberships are still to come. */
  readonly partial: boolean;
  /** The resident left memberships out of its answer. */
  readonly membersOmitted: boolean;
  /** Milliseconds by step, such as `make_join`. */
  readonly timingsMs: Readonly<Record<string, number>>;
}

/** One stay of our server in a room, as the journal has it. */
export interface RoomOverview {
  readonly roomId: RoomId;
  readonly epoch: number;
  /** From the current state; `null` where the room has none. */
  readonly name: string | null;
  readonly canonicalAlias: RoomAlias | null;
  /** Joined members in the current state, complete or not. */
  readonly membersKnown: number;
  readonly resync: ResyncState;
}

export interface RoomDescription extends RoomOverview {
  /** The control journal of this epoch, oldest first. */
  readonly journal: readonly Journalled<ResyncEvent>[];
  /** What operators have said of it in all stays, the newest first, lifted or not. */
  readonly operatorSaid: readonly OperatorEvent[];
  /** What is under way at this moment; `null`: nothing, or nothing is known of it yet. */
  readonly progress: RoomProgress | null;
  /** Missing events at which the state is looked for, or was given up, the oldest first. */
  readonly gaps: readonly Gap[];
  /** What is to be corrected yet. */
  readonly corrections: CorrectionsOpen;
  /** What other servers sent and is not judged yet. */
  readonly backlog: Backlog;
  /** Of that what waits longest, a few. */
  readonly waiting: readonly WaitingEvent[];
  /** What they sent and was given up, the newest first, a few. */
  readonly dropped: readonly DroppedEvent[];
  /** What the state lacks, those first that nobody has found yet, some hundred. */
  readonly missing: readonly MissingEvent[];
  /** Joins whose fate is unclear, and rooms to be left again, the oldest first, some. */
  readonly openIntents: readonly OpenIntent[];
}

/** What is to be corrected, and how far that is. */
export interface CorrectionsOpen extends CorrectionsDue {
  /** Events that were judged again since nothing was due the last time, and of these those that are otherwise now. */
  readonly judged: number;
  readonly changed: number;
}

export interface Member {
  readonly userId: UserId;
  readonly eventId: EventId;
  readonly membership: string;
  readonly displayName: string | null;
}

export interface StateEvent {
  readonly eventId: EventId;
  /** The event's JSON text, passed on as it is stored; what is left of it where it was taken back. */
  readonly json: string;
  /** The redaction that took it back, in the form of clients. */
  readonly redactedBecause?: JsonObject;
}

/** The room is partial still, and the caller did not want to wait longer. */
export interface NotReady {
  readonly ready: false;
  /** One sentence: what is being done, or why it stands still. */
  readonly reason: string;
  readonly retryAfterMs: number;
  readonly resync: ResyncState;
}

export interface Ready<Row> {
  readonly ready: true;
  /** The state could not be had whole: what follows lacks events. Absent: it does not. */
  readonly degraded?: boolean;
  /** Pages of some thousand rows, read while they are sent; aborting the signal ends it. */
  readonly pages: AsyncIterable<readonly Row[]>;
}

export interface WaitOptions {
  /** How long to wait at most for full state; 0: not at all. */
  readonly waitMs: number;
  readonly signal: Cancellation;
}

/** An event of the state that a verdict rests on, and what it says, in words. */
export interface Witness {
  readonly eventId: EventId;
  readonly type: string;
  readonly stateKey: string;
  readonly says: string;
}

/** A place of the state by which an event is judged, where another event stands than when it was judged before. */
export interface Turned {
  readonly was: Witness | null;
  readonly is: Witness | null;
}

/** An entry of the journal by which something is otherwise than it had been judged. */
export interface Correction {
  readonly entry: RecordedEntry;
  readonly turned: readonly Turned[];
}

export interface CorrectionsPage {
  readonly corrections: readonly Correction[];
  /** The next page begins after this position; `head` is the newest. */
  readonly next: number;
  readonly head: number;
}

/** What is known of one event. */
export interface EventStory {
  readonly eventId: EventId;
  readonly roomId: RoomId;
  /**
   * Where it is: `timeline`: taken in; `outlier`: held as state or auth event; `staged`: came, and waits; `given-up`: came, and
   * could not be used; `gap`, `anchor`: at the beginning of what is held; `missing`: a state lacks it; `cited`: others name it.
   */
  readonly place: 'timeline' | 'outlier' | 'staged' | 'given-up' | 'gap' | 'anchor' | 'missing' | 'cited';
  /** `null`: it is not held. */
  readonly event: {
    readonly type: string;
    readonly stateKey: string | null;
    readonly sender: UserId;
    readonly membership: string | null;
    readonly prevEvents: readonly EventId[];
    readonly authEvents: readonly EventId[];
  } | null;
  readonly verdict: 'accepted' | 'soft-failed' | 'rejected' | 'unjudged';
  /** The verdict is by the state known so far. */
  readonly isProvisional: boolean;
  /** What it is judged by now: the events of the state before it that the auth rules look at; of an outlier those that it cites. */
  readonly judgedBy: readonly Witness[];
  /** What the journal says of it, oldest first, with what turned out otherwise. */
  readonly history: readonly Correction[];
  /** What its last change came of, the nearest first, back to a resident's answer where it is known. */
  readonly causes: readonly Correction[];
  /** All of it in sentences. */
  readonly lines: readonly string[];
}

/** What came of a command: what was journalled, or why it changes nothing. */
export type CommandOutcome =
  { readonly isChanged: true; readonly event: ResyncEvent } | { readonly isChanged: false; readonly because: string };

export interface RetriedRooms {
  readonly retried: readonly RoomId[];
  /** The next page is of the rooms after this one; `null`: there is none. */
  readonly next: RoomId | null;
}

/** What can be read of rooms. Failures are thrown as `RoomError`. */
export interface RoomReads {
  listRooms(): Promise<readonly RoomOverview[]>;
  /** The room that an id or alias means here; throws `unknown-alias` or `unknown-room`. */
  resolveRoom(room: RoomId | RoomAlias, signal: AbortSignal): Promise<RoomId>;
  /** Of a room that nobody is in the open joins, if there are any; else throws `unknown-room`. */
  describeRoom(roomId: RoomId): Promise<RoomDescription>;
  /** Throws `unknown-room`. */
  corrections(roomId: RoomId, query: { readonly after: number; readonly limit: number }): Promise<CorrectionsPage>;
  /** Throws `unknown-event` where nothing is known under this id. */
  explainEvent(eventId: EventId): Promise<EventStory>;
  /** Members of the current state, those with `membership` only when it is given, once the room has full state. */
  members(
    roomId: RoomId,
    options: WaitOptions & { readonly membership: string | null },
  ): Promise<Ready<Member> | NotReady>;
  /**
   * The current state, or the one before an event: without memberships at once, with them once it is full state, which that of an
   * event may be long before the room's. Throws `unknown-room` for an event that is not in the timeline.
   */
  state(
    roomId: RoomId,
    options: WaitOptions & { readonly members: boolean; readonly at?: EventId | undefined },
  ): Promise<Ready<StateEvent> | NotReady>;
}

/** Which entries of the journal are wanted; all where nothing is said. */
export interface JournalFilter {
  readonly roomId?: RoomId | undefined;
  readonly types?: ReadonlySet<EntryType> | undefined;
}

export interface JournalQuery extends JournalFilter {
  /** The entries after this position; 0 is the beginning, `now` the newest. */
  readonly after: number | 'now';
}

/** What comes next in the journal, in order. */
export interface JournalPart {
  /** Empty: nothing that is wanted came for a while, up to `next`. */
  readonly entries: readonly RecordedEntry[];
  /** Reading goes on after this position, also another time. */
  readonly next: number;
}

/** Somebody who follows the journal. */
export interface JournalFollower {
  /** Without end, but for the caller's; each is read when it is asked for. */
  readonly parts: AsyncIterable<JournalPart>;
  /** Says that the reader took nothing for too long, and is given nothing more. */
  cut(): void;
}

/** Reading the journal of all rooms. Throws `RoomError` `invalid` for a position beyond the newest. */
export interface JournalReads {
  page(query: JournalQuery & { readonly limit: number }): Promise<JournalPage>;
  /** Throws `RoomError` `too-many` where as many follow as this process bears. Aborting the signal ends it. */
  follow(query: JournalQuery, signal: AbortSignal): Promise<JournalFollower>;
}

/** `absent`: we are not in the room, or know nothing of it. `denied`: its ACL shuts out the server that asks. */
export type RoomStatus = 'absent' | 'denied' | 'partial' | 'full';

/** Something that is not kept in a room's history; its content is whatever a stranger wrote. */
export interface ReceivedEdu {
  readonly type: EduType;
  readonly content: JsonObject;
}

export interface ReceivedTransaction {
  /** Each with the bytes received, and the room that it names; at most 50. */
  readonly pdus: readonly { readonly raw: Uint8Array; readonly roomId: RoomId }[];
  /** At most 100; absent: there are none. */
  readonly edus?: readonly ReceivedEdu[];
}

/** By event id. Without `error`: stored, and judged in its room's turn; with it: it can't be processed at all. */
export type PduResults = Readonly<Record<EventId, { readonly error?: string }>>;

export type TransactionAnswer =
  /** `response`: the body of the answer, which holds `pdus`. */
  | { readonly outcome: 'answered'; readonly response: JsonObject }
  /** The server has too much waiting here; nothing was stored. */
  | { readonly outcome: 'limited'; readonly retryAfterMs: number };
