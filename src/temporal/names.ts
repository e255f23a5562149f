/**
 * Every name that people meet in the Temporal UI or type into its CLI: workflow ids, types, signals, search attributes.
 * Renaming one is a migration. Imported by workflows, so nothing but strings lives here.
 */
import { type RoomId } from '../matrix/identifiers.ts';

export const RESYNC_WORKFLOW_TYPE = 'resyncRoom';

/** What runs by a schedule, each under one id for schedule and workflow, so that no pass starts while one runs. */
export const SCHEDULED = {
  sweep: {
    id: 'rejoinder-sweep',
    workflowType: 'sweepOverdueResyncs',
    summary: 'Find rooms that should be moving and are not',
  },
  finishJoins: {
    id: 'rejoinder-finish-joins',
    workflowType: 'finishLostJoins',
    summary: 'Finish joins that a resident accepted and we lost',
  },
  maintain: {
    id: 'rejoinder-maintenance',
    workflowType: 'maintain',
    summary: 'Delete what nothing needs any more',
  },
} as const;

export type ScheduledName = keyof typeof SCHEDULED;

/** A signal without content: "look at the journal again". Usable from the UI and the CLI. */
export const RING_SIGNAL = 'ring';

/** One workflow a room, for ever: `prefix` separates test files that share a server. */
export function resyncWorkflowId(roomId: RoomId, prefix = ''): string {
  return `${prefix}resync ${shownRoom(roomId)}`;
}

/** A room id in names that people read in one line. One with control characters is encoded; no other begins like that. */
export function shownRoom(roomId: RoomId): string {
  return /[\u0000-\u001f\u007f-\u009f]/.test(roomId) ? `%${encodeURIComponent(roomId)}` : roomId;
}

/** Custom search attributes. */
export const SEARCH_ATTRIBUTES = {
  room: 'RejoinderRoom',
  phase: 'RejoinderPhase',
  resident: 'RejoinderResident',
  /** Of the room's gaps those that are open: `RejoinderGaps > 0` finds such rooms. */
  gaps: 'RejoinderGaps',
  /** What the last failure means (src/resync/outcomes.ts), such as `transient`. */
  failure: 'RejoinderFailure',
  /** Joined ones, once the room is whole. */
  members: 'RejoinderMembers',
  joinedAt: 'RejoinderJoinedAt',
  /** How many wait for the room, in bands: `0`, `1+`, `10+`, `100+`. Written with what else changes. */
  waiters: 'RejoinderWaiters',
} as const;

/** By name, in the words of Temporal's CLI. */
export const SEARCH_ATTRIBUTE_TYPES = {
  [SEARCH_ATTRIBUTES.room]: 'Keyword',
  [SEARCH_ATTRIBUTES.phase]: 'Keyword',
  [SEARCH_ATTRIBUTES.resident]: 'Keyword',
  [SEARCH_ATTRIBUTES.gaps]: 'Int',
  [SEARCH_ATTRIBUTES.failure]: 'Keyword',
  [SEARCH_ATTRIBUTES.members]: 'Int',
  [SEARCH_ATTRIBUTES.joinedAt]: 'Datetime',
  [SEARCH_ATTRIBUTES.waiters]: 'Keyword',
} as const;

/** Of so many who wait, the band: exact numbers would be others at each look. */
export function waitersBand(waiters: number): string {
  const band = [100, 10, 1].find((least) => waiters >= least);
  return band === undefined ? '0' : `${band}+`;
}

/**
 * Where fetches of the state of a join wait, apart from the rest: a hundred residents that answer slowly keep no walk and no
 * look at the journal waiting.
 */
export function fetchTaskQueue(taskQueue: string): string {
  return `${taskQueue}-fetch`;
}

/**
 * Where waits what else asks other servers: about gaps, which whoever pushes events may open, and about what is lacking. However
 * much of that there is in other rooms, a room that was just joined has its state fetched.
 */
export function gapsTaskQueue(taskQueue: string): string {
  return `${taskQueue}-gaps`;
}
