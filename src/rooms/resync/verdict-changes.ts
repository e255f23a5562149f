/** The bound on how often the verdict on one event is corrected, and what names each change apart from the others. */
import { type EventId } from '../../matrix/identifiers.ts';
import { type TimelineEvent } from '../../resync/events.ts';
import { countOwnCauses, readVerdictChanges } from '../../store/events/corrections.ts';
import { type Sql } from '../../store/open-store.ts';
import { CYCLE } from '../../store/events/event-states.ts';

type VerdictChanged = Extract<TimelineEvent, { type: 'VerdictChanged' }>;

/** An event whose verdict has changed so often is looked at: whether its changes lead to each other. Most change once or twice. */
const CHANGES_UNASKED_MAX = 20;
/** With so many of its own changes among what led to the next one, it rests on itself. One cause may reach an event on two ways. */
const OWN_CAUSES_MAX = 10;
/** How often the verdict on one event is corrected, whatever leads to it. */
const CHANGES_AN_EVENT_MAX = 200;

export interface ChangesBefore {
  /** The change as it is journalled: with a cause that it was not made by before, and within the bounds. */
  limit(change: VerdictChanged): VerdictChanged;
}

/** What the journal says of the earlier changes of these events, and of what leads to those that are due now. */
export async function changesBefore(
  sql: Sql,
  due: readonly { readonly eventId: EventId; readonly cause: number }[],
): Promise<ChangesBefore> {
  const before = await readVerdictChanges(
    sql,
    due.map(({ eventId }) => eventId),
  );
  const changesOf = (eventId: EventId) => before.get(eventId) ?? { causes: [], last: 0 };
  // One correction may reach an event on several ways; then its own last change stands for what came in between.
  const causeOf = ({ eventId, cause }: { readonly eventId: EventId; readonly cause: number }): number => {
    const { causes, last } = changesOf(eventId);
    return causes.includes(cause) ? last : cause;
  };
  const often = due.filter(({ eventId }) => changesOf(eventId).causes.length >= CHANGES_UNASKED_MAX);
  const own = await countOwnCauses(
    sql,
    often.map((change) => ({ eventId: change.eventId, cause: causeOf(change) })),
  );
  return {
    limit: (change) => {
      const { length } = changesOf(change.eventId).causes;
      const isRound = (own.get(change.eventId) ?? 0) >= OWN_CAUSES_MAX || length >= CHANGES_AN_EVENT_MAX;
      return { ...(isRound ? refusedForGood(change, length) : change), cause: causeOf(change) };
    },
  };
}

/** Its verdict goes round with those of what it rests on. What stands on it is looked at for that. */
function refusedForGood(
  { type, eventId, was, cause, through, stateBefore }: VerdictChanged,
  changes: number,
): VerdictChanged {
  return {
    ...{ type, eventId, was, is: 'rejected', cause },
    ...(through === undefined ? {} : { through }),
    ...(stateBefore === undefined ? {} : { stateBefore, stateAfter: stateBefore }),
    rule: CYCLE,
    reason: `its verdict changed ${changes} times with those of events that it rests on: it rests on itself`,
    authState: [],
  };
}
