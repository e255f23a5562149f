/**
 * What whoever drives a resync keeps between two things done: what it knows of the room, and how the answer of an activity goes
 * into that. Pure; the workflow runs it, and so do the drivers of tests.
 */
import { type ResyncEvent } from './events.ts';
import { type GapsDue } from './next-action.ts';
import { evolve } from './evolve.ts';
import { type ResyncState } from './state.ts';

/** The journal's word on a room: the fold of its control events up to `seq`. */
export interface KnownResync {
  readonly epoch: number;
  readonly seq: number;
  readonly state: ResyncState;
  /** Absent: none is open. */
  readonly gaps?: GapsDue;
  /** What can be looked at again now; absent: nothing. */
  readonly corrections?: number;
  /** How many wait for the room, as was last said; absent: nobody. */
  readonly waiters?: number;
}

/** All control events since those that were known, whoever wrote them. An epoch other than the known one means: load again. */
export interface ActivityAnswer {
  readonly epoch: number;
  readonly events: readonly { readonly seq: number; readonly event: ResyncEvent }[];
  readonly gaps?: GapsDue;
  readonly corrections?: number;
  readonly waiters?: number;
}

/** Before a longer wait a run of the workflow ends and the next one begins, so that waiting rooms hold a history of a few events, milliseconds. */
export const LONGEST_WAIT_IN_RUN_MS = 10 * 60_000;

/** So many answers in a row that say nothing new, of a journal that says nothing new either, are a fault of ours. */
export const STALLED_ROUNDS_MAX = 3;

/** Whether an answer says anything that was not known. A look for corrections that changed nothing is no news. */
export function isNews(known: KnownResync, answer: ActivityAnswer): boolean {
  return (
    answer.events.length > 0 ||
    answer.epoch !== known.epoch ||
    isTried(known.gaps, answer.gaps) ||
    answer.corrections !== known.corrections
  );
}

/** What is known after an answer of the same epoch. */
export function foldAnswer<Known extends KnownResync>(known: Known, answer: ActivityAnswer): Known {
  const { events, gaps, corrections, waiters } = answer;
  const folded: Known & { gaps?: GapsDue; corrections?: number; waiters?: number } = {
    ...known,
    seq: events.at(-1)?.seq ?? known.seq,
    state: events.reduce((before, { event }) => evolve(before, event), known.state),
  };
  // What an answer does not name is not there any more.
  delete folded.gaps;
  delete folded.corrections;
  delete folded.waiters;
  return Object.assign(
    folded,
    gaps === undefined ? {} : { gaps },
    corrections === undefined ? {} : { corrections },
    waiters === undefined ? {} : { waiters },
  );
}

/** An attempt at a gap that failed is no control event: it was counted, or the gap is due later. */
function isTried(before: GapsDue | undefined, after: GapsDue | undefined): boolean {
  return after?.attempts !== before?.attempts || after?.nextAt !== before?.nextAt;
}
