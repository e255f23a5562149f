/** What a run has met, as its journal tells it: entries by type, and what turned out otherwise, by direction and kind. */
import { type EventId } from '../../src/matrix/identifiers.ts';
import { type Pdu } from '../../src/matrix/pdu.ts';
import { type JournalEvent } from '../../src/resync/entries.ts';
import { type Coverage } from './coverage.ts';

export function coverJournal(
  coverage: Coverage,
  journal: readonly { readonly event: JournalEvent }[],
  eventOf: (eventId: EventId) => Pdu,
): void {
  for (const { event: entry } of journal) {
    coverage.count(`entry ${entry.type}`);
    if (entry.type === 'GapOpened') {
      coverage.count(entry.assumedState === null ? 'gap in a whole room' : 'gap in a partial room');
    }
    if (entry.type === 'StateFetchFailed') coverage.count(`fetch failed: ${entry.failure}`);
    if ((entry.type !== 'EventUnPartialStated' && entry.type !== 'VerdictChanged') || entry.was === entry.is) continue;
    const by = entry.type === 'VerdictChanged' ? 'a correction' : 'the walk';
    coverage.count(`${entry.was}, then ${entry.is} by ${by}`);
    coverage.count(`${kindOf(eventOf(entry.eventId))} ${entry.was}, then ${entry.is} by ${by}`);
  }
}

function kindOf({ type, stateKey }: Pdu): string {
  if (type === 'm.room.member') return 'membership';
  return stateKey === undefined ? 'message' : 'state';
}
