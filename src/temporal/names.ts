/**
 * Every name that people meet in the Temporal UI or type into its CLI: workflow ids, types, signals, search attributes.
 * Renaming one is a migration. Imported by workflows, so nothing but strings lives here.
 */
import { type RoomId } from '../matrix/identifiers.ts';

export const RESYNC_WORKFLOW_TYPE = 'resyncRoom';
export const SWEEP_WORKFLOW_TYPE = 'sweepOverdueResyncs';
export const SWEEP_SCHEDULE_ID = 'rejoinder-sweep';
export const SWEEP_WORKFLOW_ID = 'rejoinder-sweep';

/** A signal without content: "look at the journal again". Usable from the UI and the CLI. */
export const RING_SIGNAL = 'ring';

/** One workflow a room, for ever: `prefix` separates test files that share a server. */
export function resyncWorkflowId(roomId: RoomId, prefix = ''): string {
  return `${prefix}resync ${roomId}`;
}

/** Custom search attributes, all of type Keyword. */
export const SEARCH_ATTRIBUTES = {
  room: 'RejoinderRoom',
  phase: 'RejoinderPhase',
  resident: 'RejoinderResident',
} as const;
