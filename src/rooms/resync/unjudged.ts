/** Why events of a fetched state have no verdict: the ways from what is missing to what cites it, and back. Pure. */
import { authEventIdsOf } from '../../matrix/auth/auth-events.ts';
import { eventsCiting } from '../../matrix/auth/citing-events.ts';
import { type EventId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type Outlier } from '../judge/judge-outliers.ts';

/** Events nothing of which is at hand, and for want of which those of `roots` have no verdict, be it through others that have none. */
export function lackedForVerdicts(
  judged: ReadonlyMap<EventId, Outlier>,
  roots: readonly EventId[],
  rules: RoomVersionRules,
): EventId[] {
  const absent = new Set<EventId>();
  const seen = new Set<EventId>();
  const toSee = roots.filter((eventId) => judged.get(eventId)?.verdict === 'unjudged');
  for (let eventId = toSee.pop(); eventId !== undefined; eventId = toSee.pop()) {
    if (seen.has(eventId)) continue;
    seen.add(eventId);
    const outlier = judged.get(eventId);
    if (outlier === undefined) absent.add(eventId);
    else if (outlier.verdict === 'unjudged') toSee.push(...authEventIdsOf(outlier.event, rules));
  }
  return [...absent];
}

/** Events that have no verdict because they cite missing ones, be it through others. */
export function fallenWith(
  judged: ReadonlyMap<EventId, Outlier>,
  missing: Iterable<EventId>,
  rules: RoomVersionRules,
): ReadonlySet<EventId> {
  const unjudged = [...judged].flatMap(([eventId, { event, verdict }]) =>
    verdict === 'unjudged' ? [{ eventId, authEvents: authEventIdsOf(event, rules) }] : [],
  );
  return eventsCiting(unjudged, missing);
}
