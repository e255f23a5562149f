/** The bound on how often the verdict on one event is corrected, and what names each change apart from the others. */
import { type EventId } from '../../matrix/identifiers.ts';
import { type TimelineEvent } from '../../resync/events.ts';
import { readVerdictChanges } from '../../store/events/corrections.ts';
import { type Sql } from '../../store/open-store.ts';

type VerdictChanged = Extract<TimelineEvent, { type: 'VerdictChanged' }>;

/** How often the verdict on one event is corrected. Honest events change once or twice. */
export const CHANGES_AN_EVENT_MAX = 20;

export interface ChangesBefore {
  /** The change as it is journalled: with a cause that it was not made by before, and within the bound. */
  limit(change: VerdictChanged): VerdictChanged;
}

/** What the journal says of the earlier changes of these events. */
export async function changesBefore(sql: Sql, eventIds: readonly EventId[]): Promise<ChangesBefore> {
  const before = await readVerdictChanges(sql, eventIds);
  return {
    limit: (change) => {
      const { causes, last } = before.get(change.eventId) ?? { causes: [], last: 0 };
      // One correction may reach an event on several ways; then its own last change stands for what came in between.
      const cause = causes.includes(change.cause) ? last : change.cause;
      return causes.length < CHANGES_AN_EVENT_MAX ? { ...change, cause } : { ...refusedForGood(change), cause };
    },
  };
}

/** Its verdict goes round with those of what it rests on. What stands on it is looked at for that. */
function refusedForGood({ type, eventId, was, cause, through, stateBefore }: VerdictChanged): VerdictChanged {
  return {
    ...{ type, eventId, was, is: 'rejected', cause },
    ...(through === undefined ? {} : { through }),
    ...(stateBefore === undefined ? {} : { stateBefore, stateAfter: stateBefore }),
    rule: 'graph-cycle',
    reason: `its verdict changed ${CHANGES_AN_EVENT_MAX} times with those of events that it rests on: it rests on itself`,
    authState: [],
  };
}
