/** A resync in a few lines of Markdown, for people: the Temporal UI shows it as the workflow's current details. */
import { type ResyncState } from './state.ts';

/** A stranger's words, which must not become links or headings where Markdown is shown. */
const quoted = (text: string): string => `\`${text.replaceAll('`', "'")}\``;
const iso = (ms: number): string => new Date(ms).toISOString();

export function describeResync(state: ResyncState): string {
  const lines = [`**${headline(state)}**`];
  if (state.joinedVia !== null && state.joinedAt !== null) {
    lines.push(
      `Joined via ${state.joinedVia} at ${iso(state.joinedAt)}; ${state.candidates.length} servers may be asked.`,
    );
  }
  if (state.attempts > 0) lines.push(`Attempts: ${state.attempts}, round ${state.round}.`);
  if (state.lastFetch !== null) {
    const { state: events, authChain, fetched, alreadyHeld, dropped } = state.lastFetch;
    lines.push(
      `State: ${events} events, auth chain ${authChain}; ${fetched} fetched, ${alreadyHeld} held before, ${dropped} dropped.`,
    );
  }
  if (state.walked > 0) lines.push(`Events judged again: ${state.walked}, corrected: ${state.corrected}.`);
  if (state.lastFailure !== null) {
    const { resident, failure, reason, at } = state.lastFailure;
    lines.push(`Last failure: ${resident}, ${failure}: ${quoted(reason)} (${iso(at)}).`);
  }
  return lines.join('\n\n');
}

function headline(state: ResyncState): string {
  switch (state.phase) {
    case 'absent':
      return 'Nothing to do: the room has no resync';
    case 'fetching':
      return state.attempt === null ? 'Choosing a resident' : `Fetching state from ${state.attempt.resident}`;
    case 'waiting':
      return `Waiting until ${state.nextWakeAt === null ? 'rung' : iso(state.nextWakeAt)}: every resident failed`;
    case 'walking':
      return 'Judging partial events with full state';
    case 'complete':
      return `Complete: ${state.members ?? 0} members`;
  }
}
