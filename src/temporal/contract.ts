/**
 * What passes between workflows and activities: ids, counts and control events, never state maps. The workflow imports
 * types only; `activities/` implements them.
 */
import { type RoomId } from '../matrix/identifiers.ts';
import { type Degraded } from '../resync/degraded.ts';
import { type ActivityAnswer, type KnownResync } from '../resync/fold-answer.ts';
import { type Attempt } from '../resync/state.ts';

export interface ResyncRoomInput {
  readonly roomId: RoomId;
  /** Set by continue-as-new before a long wait: the run starts with a short history and sleeps until then. */
  readonly waitingUntilMs?: number;
  /** Likewise before a room is parked: when that was. */
  readonly parkedSinceMs?: number;
}

/** What a closed run answers, for people who open it in the UI. */
export interface ResyncRoomResult {
  readonly roomId: RoomId;
  readonly epoch: number;
  /** `degraded` where the state could not be had whole. */
  readonly phase: string;
  readonly members: number | null;
  readonly walked: number;
  readonly corrected: number;
  /** What the state lacks; absent: nothing. */
  readonly degraded?: Degraded;
}

/** What is known of a room. */
export interface LoadedResync extends KnownResync {
  readonly roomId: RoomId;
}

/** Says which stay in which room is meant, and how much of its control stream the workflow has folded. */
export interface RoomCursor {
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly sinceSeq: number;
}

/** All control events after `sinceSeq`, and what else is due. */
export type ControlEvents = ActivityAnswer;

export interface FetchStateInput extends RoomCursor, Attempt {}

export interface EndRoundInput extends RoomCursor {
  readonly round: number;
}

/** What somebody commands, as it came. */
export interface GivenCommand {
  readonly name: string;
  readonly body: unknown;
  /** Nobody is told what comes of a signal: its refusal is journalled. */
  readonly isSignal: boolean;
}

export interface CommandRoomInput extends GivenCommand {
  readonly roomId: RoomId;
}

/** In words. */
export type CommandAnswer = { readonly changed: boolean; readonly explanation: string } | { readonly refused: string };

/** What a scheduled pass is given. */
export interface PassInput {
  /** The pass ends by itself after this long, and the next one goes on. */
  readonly budgetMs: number;
}

export interface SweepResult {
  /** Rooms whose workflow was started or rung. */
  readonly rung: number;
  /** Of these, rooms whose workflow could not go on and was replaced by a fresh one. */
  readonly revived: number;
  /** Rooms that waited for a server which is back. */
  readonly woken: number;
}

export interface FinishJoinsResult {
  /** Joins that a resident had accepted and we had lost, finished now. */
  readonly finished: number;
}

/** Rows deleted. */
export interface MaintainResult {
  /** Anchors of whole rooms at which the state is asked for again. */
  readonly reopened: number;
  readonly transactions: number;
  readonly keys: number;
  /** Events that were given up. */
  readonly staged: number;
  /** Events without a verdict that nothing needs. */
  readonly outliers: number;
  /** Events that a state lacked which nobody asks for any more. */
  readonly missing: number;
  /** Events that were awaited for too long. */
  readonly awaited: number;
  /** Servers that failed and are asked nothing any more. */
  readonly destinations: number;
  /** Invites and knocks that were over. */
  readonly invites: number;
  readonly chunks: number;
  /** Rooms whose purge had been cut off, and was gone on with. */
  readonly purges: number;
}

/** The activities a worker registers; each looks at the journal first and does nothing that is journalled already. */
export interface Activities {
  loadResync(input: { readonly roomId: RoomId }): Promise<LoadedResync>;
  fetchState(input: FetchStateInput): Promise<ControlEvents>;
  endRound(input: EndRoundInput): Promise<ControlEvents>;
  endStay(input: RoomCursor): Promise<ControlEvents>;
  commandRoom(input: CommandRoomInput): Promise<CommandAnswer>;
  /** Of runs from before `commandRoom`. */
  resumeResync(input: RoomCursor): Promise<ControlEvents>;
  leaveRoom(input: RoomCursor): Promise<ControlEvents>;
  walkEvents(input: RoomCursor): Promise<ControlEvents>;
  correctEvents(input: RoomCursor): Promise<ControlEvents>;
  fetchGaps(input: RoomCursor): Promise<ControlEvents>;
  seekMissing(input: RoomCursor): Promise<ControlEvents>;
  sweep(input: PassInput): Promise<SweepResult>;
  finishJoins(): Promise<FinishJoinsResult>;
  maintain(input: PassInput): Promise<MaintainResult>;
}
