/** Judges outliers again whose auth events have another verdict, or a first one. */
import { type EventId } from '../../matrix/identifiers.ts';
import { type TimelineEvent } from '../../resync/events.ts';
import { type CorrectionTarget, addFirstVerdicts, deleteTargets } from '../../store/events/corrections.ts';
import { type OutlierVerdict, type StoredPdu, readPdus, recordOutlierVerdicts } from '../../store/events/pdus.ts';
import { type Transaction } from '../../store/open-store.ts';
import { judgeLoaded } from '../judge/judge-outliers.ts';
import { type OutlierStanding, OutlierTable } from '../judge/outlier-table.ts';
import { type Correcting, commitCorrections, correctedEvent } from './correction-step.ts';
import { changesBefore } from './verdict-changes.ts';

type VerdictChanged = Extract<TimelineEvent, { type: 'VerdictChanged' }>;

/**
 * Judges these outliers, those that others of them cite first; `false`: somebody else came in between. A first verdict is no
 * correction and is recorded only; what waited for it is looked at next.
 */
export async function correctOutliers(correcting: Correcting, targets: readonly CorrectionTarget[]): Promise<boolean> {
  const { context, roomId, progress } = correcting;
  const { store } = context;
  const ids = targets.map(({ eventId }) => eventId);
  const before = new Map<EventId, StoredPdu['verdict']>();
  const outliers = await loadOutliers(correcting, ids, before);
  const verdicts: OutlierVerdict[] = [];
  for await (const some of judgeLoaded(outliers, progress.heartbeat)) verdicts.push(...some);

  const first = verdicts.filter(({ eventId }) => before.get(eventId) === 'unjudged');
  const flipped = verdicts.filter(({ eventId, verdict }) => ![verdict, 'unjudged'].includes(before.get(eventId) ?? ''));
  const dueTo = new Map(targets.map((target) => [target.eventId, target]));
  const changes = await changesBefore(
    store,
    [...flipped, ...first].map(({ eventId }) => ({ eventId, cause: dueTo.get(eventId)?.cause ?? 0 })),
  );
  const entryOf = (verdict: OutlierVerdict): VerdictChanged[] => {
    const due = dueTo.get(verdict.eventId);
    return due === undefined ? [] : [changes.limit(changeOf(verdict, due))];
  };
  return commitCorrections(correcting, async (tx) => {
    if ((await deleteTargets(tx, roomId, ids)) === 0) return [];
    const judgedByOthers = new Set(await recordOutlierVerdicts(tx, roomId, first));
    await addFirstVerdicts(
      tx,
      roomId,
      first.map(({ eventId }) => ({ eventId, cause: dueTo.get(eventId)?.cause ?? 0 })),
    );
    const entries = [
      ...flipped,
      ...(await othersFirst(
        tx,
        correcting,
        first.filter(({ eventId }) => judgedByOthers.has(eventId)),
      )),
    ].flatMap(entryOf);
    return [...entries, await correctedEvent(tx, correcting, ids.length, entries.length + first.length)];
  });
}

/**
 * Of these, which somebody else has judged, those that he judged otherwise in the meantime, by what he had read before a verdict
 * turned: his verdict, the first, is recorded, and ours is a change of it.
 */
async function othersFirst(
  tx: Transaction,
  { roomId }: Correcting,
  first: readonly OutlierVerdict[],
): Promise<OutlierVerdict[]> {
  const rows = await readPdus(
    tx,
    roomId,
    first.map(({ eventId }) => eventId),
  );
  const recorded = new Map(rows.map(({ eventId, verdict }) => [eventId, verdict]));
  return first.filter(({ eventId, verdict }) => recorded.has(eventId) && recorded.get(eventId) !== verdict);
}

/** The outliers as judging wants them, and what they cite with the verdicts of now. */
async function loadOutliers(
  { context, roomId, rules }: Correcting,
  ids: readonly EventId[],
  before: Map<EventId, StoredPdu['verdict']>,
): Promise<OutlierTable> {
  const outliers = new OutlierTable(roomId, rules);
  const put = ({ nid, stateKeyNid, ...event }: StoredPdu, verdict: OutlierStanding, authDepth: number | null): void => {
    outliers.put({ event, verdict, authDepth, nid, stateKeyNid });
  };
  for (const row of await readPdus(context.store, roomId, ids)) {
    before.set(row.eventId, row.verdict);
    put(row, 'waiting', null);
  }
  const cited = new Set([...before.keys()].flatMap((eventId) => outliers.authEventsOf(eventId)));
  const unread = [...cited].filter((eventId) => !before.has(eventId));
  for (const row of await readPdus(context.store, roomId, unread)) put(row, row.verdict, row.authDepth);
  return outliers;
}

function changeOf(
  { eventId, verdict, rule, reason }: OutlierVerdict,
  { cause, through }: CorrectionTarget,
): VerdictChanged {
  const was = verdict === 'accepted' ? 'rejected' : 'accepted';
  const why = rule === undefined ? {} : { rule, ...(reason === undefined ? {} : { reason }) };
  return { type: 'VerdictChanged', eventId, was, is: verdict, cause, through, ...why };
}
