/** Every entry of the journal as a sentence: the control events of explain.ts, and what was decided about events. */
import { type JournalEvent, isTimelineEvent } from './entries.ts';
import { type TimelineEvent } from './events.ts';
import { explain } from './explain.ts';

/** What was decided, and why, as one sentence; ids and reasons in it are a stranger's words. */
export function explainEntry(event: JournalEvent): string {
  return isTimelineEvent(event) ? explainVerdict(event) : explain(event);
}

function explainVerdict(event: TimelineEvent): string {
  switch (event.type) {
    case 'PduAccepted':
      return `${event.eventId} was ${event.softFailed ? 'soft-failed' : 'accepted'}${provisionally(event)}`;
    case 'PduRejected':
      return `${event.eventId} was rejected${provisionally(event)}: ${event.reason} (${event.rule})`;
    case 'EventUnPartialStated':
      return event.was === event.is
        ? `${event.eventId} is judged by the full state: ${event.is}, as before`
        : `${event.eventId} is judged by the full state: ${event.was} before, ${event.is} now${because(event)}`;
    case 'EventSoftFailed':
      return `${event.eventId} is soft-failed: the current state at its place refuses it: ${event.reason} (${event.rule})`;
    case 'SoftFailureLifted':
      return `${event.eventId} is not soft-failed after all: the current state at its place lets it be, by what is known now`;
    case 'VerdictChanged': {
      const through = event.through === undefined ? '' : `, through ${event.through}`;
      return `${event.eventId} is judged again, since what it rests on has changed${through}: ${event.was} before, ${event.is} now${because(event)}`;
    }
    case 'StatesChanged':
      return `The state before events is another now: ${event.eventIds.length}, ${event.eventIds[0] ?? 'none'} first`;
    case 'CurrentStateResolved':
      return 'The current state was worked out again';
  }
}

const provisionally = ({ partial }: { readonly partial: boolean }): string =>
  partial ? ' provisionally, by the state that is known so far' : '';

function because({ rule, reason }: { readonly rule?: string; readonly reason?: string }): string {
  return reason === undefined ? '' : `: ${reason} (${rule ?? 'no rule'})`;
}
