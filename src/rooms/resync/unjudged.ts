/** Why events of a fetched state have no verdict: the ways from what is missing to what cites it, and back. Pure. */
import { eventsCiting } from '../../matrix/auth/citing-events.ts';
import { type EventId } from '../../matrix/identifiers.ts';
import { unjudgedIn } from '../judge/judge-outliers.ts';
import { type OutlierTable } from '../judge/outlier-table.ts';

/** Events nothing of which is at hand, and for want of which those of `roots` have no verdict, be it through others that have none. */
export function lackedForVerdicts(outliers: OutlierTable, roots: Iterable<EventId>): EventId[] {
  const absent = new Set<EventId>();
  const seen = new Set<EventId>();
  const toSee: EventId[] = [];
  for (const eventId of roots) if (outliers.verdictOf(eventId) === 'unjudged') toSee.push(eventId);
  for (let eventId = toSee.pop(); eventId !== undefined; eventId = toSee.pop()) {
    if (seen.has(eventId)) continue;
    seen.add(eventId);
    const verdict = outliers.verdictOf(eventId);
    if (verdict === undefined) absent.add(eventId);
    else if (verdict === 'unjudged') toSee.push(...outliers.authEventsOf(eventId));
  }
  return [...absent];
}

/** Events that have no verdict because they cite missing ones, be it through others. */
export function fallenWith(outliers: OutlierTable, missing: ReadonlyMap<EventId, unknown>): ReadonlySet<EventId> {
  if (missing.size === 0) return new Set();
  const unjudged = Array.from(unjudgedIn(outliers), (eventId) => {
    return { eventId, authEvents: outliers.authEventsOf(eventId) };
  });
  return eventsCiting(unjudged, missing.keys());
}
