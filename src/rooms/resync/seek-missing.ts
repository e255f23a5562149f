/**
 * Looks on for what the state of a degraded room lacks, and those at gaps. What is found is stored, judged and marked; its places in the states at
 * anchors are a correction (correct-anchors.ts).
 */
import pLimit from 'p-limit';
import { FederationError } from '../../federation/error.ts';
import { type EventId, type ServerName } from '../../matrix/identifiers.ts';
import { mayBeAsked } from '../../resync/choice.ts';
import { SEEKS_AT_GAPS_MAX, nextSeekAt } from '../../resync/policy.ts';
import { isSeeking, timesSought } from '../../resync/state.ts';
import { countLacking, markFound, readLacking } from '../../store/events/missing-events.ts';
import { readHeldEvents } from '../../store/events/pdus.ts';
import { append } from '../../store/journal/journal.ts';
import { lockResync, readResync } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { judgeOutliers } from '../judge/judge-outliers.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { type HealthView, viewHealth } from './destination-health.ts';
import { type Stay } from './ask-gap-residents.ts';
import { type Progress, type StateIntake, createStateIntake } from './state-intake.ts';
import { WantedEvents } from './wanted-events.ts';

/** Events looked for at a time, the next ones each time; and servers asked for them. */
const SOUGHT_AT_A_TIME = 100;
const SERVERS_ASKED = 3;
const IN_FLIGHT = 8;

/** Looks once, and journals `MissingSought`. Does nothing when the stay is over or nothing is due. */
export async function seekMissing(context: RoomsContext, { roomId, epoch }: Stay, progress: Progress): Promise<void> {
  const { store, clock, random } = context;
  const resync = await readResync(store, roomId);
  if (resync?.epoch !== epoch || resync.state.phase !== 'complete' || !isSeeking(resync.state)) return;
  const { roomVersion } = resync.state;
  const sought = timesSought(resync.state);
  const rules = rulesOfJoined(roomVersion ?? '');
  const lacked = await countLacking(store, roomId);
  const skip = (sought * SOUGHT_AT_A_TIME) % Math.max(1, lacked.ofRoom + lacked.atGaps);
  const lacking = await readLacking(store, roomId, { skip, limit: SOUGHT_AT_A_TIME });
  const ids = lacking.map(({ eventId }) => eventId);
  const wanted = new WantedEvents(ids, await readHeldEvents(store, roomId, ids));
  const health = viewHealth(context);
  for (const server of turnOf(mayBeAsked(resync.state), sought)) {
    if (wanted.missing().length === 0) break;
    const onStored = (): Promise<void> => Promise.resolve();
    const intake = createStateIntake(context, { roomId, resident: server, rules, wanted, progress, onStored });
    await askOne(context, health, server, { eventIds: wanted.missing(), intake, signal: progress.signal });
  }
  const atHand = ids.filter((eventId) => wanted.isAtHand(eventId));
  // Those they cite were judged with the state, and are read with their verdicts.
  const alone = await judgeOutliers(store, roomId, rules, atHand, progress.heartbeat);
  const cited = atHand.flatMap((eventId) => alone.authEventsOf(eventId));
  const judged = await judgeOutliers(store, roomId, rules, [...new Set([...atHand, ...cited])], progress.heartbeat);
  const found = atHand.filter((eventId) => (judged.verdictOf(eventId) ?? 'unjudged') !== 'unjudged');

  await withTransaction(store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    if (stay === undefined || !isSeeking(stay.resync) || timesSought(stay.resync) !== sought) return;
    const at = clock.now();
    await markFound(tx, roomId, found, at);
    const { ofRoom: left, atGaps } = await countLacking(tx, roomId);
    const isOver = stay.resync.soughtAtGaps === null || stay.resync.soughtAtGaps + 1 >= SEEKS_AT_GAPS_MAX;
    const leftAtGaps = isOver ? 0 : atGaps;
    const wakeAt = left + leftAtGaps === 0 ? null : nextSeekAt(sought, at, random());
    const named = found.length === 0 ? {} : { foundIds: found };
    const gaps = leftAtGaps === 0 ? {} : { leftAtGaps };
    await append(tx, stay.room, [{ type: 'MissingSought', found: found.length, ...named, left, ...gaps, wakeAt, at }]);
  });
}

/** A few of those who may be asked, others each time. */
function turnOf(candidates: readonly ServerName[], sought: number): readonly ServerName[] {
  const start = candidates.length === 0 ? 0 : (sought * SERVERS_ASKED) % candidates.length;
  return [...candidates.slice(start), ...candidates.slice(0, start)].slice(0, SERVERS_ASKED);
}

interface Sought {
  readonly eventIds: readonly EventId[];
  readonly intake: StateIntake;
  readonly signal: AbortSignal;
}

/** Asks one server for each event; it is left once it fails by more than not having one. */
async function askOne(
  context: RoomsContext,
  health: HealthView,
  server: ServerName,
  { eventIds, intake, signal }: Sought,
): Promise<void> {
  const limit = pLimit(IN_FLIGHT);
  const had: Uint8Array[] = [];
  let gaveUp = false;
  const fetchOne = async (eventId: EventId): Promise<void> => {
    if (gaveUp) return;
    try {
      had.push(await health.ask(server, () => context.federation.event(server, eventId, { signal })));
    } catch (error) {
      if (!(error instanceof FederationError) || signal.aborted) throw error;
      gaveUp ||= error.kind !== 'not-found' && error.kind !== 'forbidden';
    }
  };
  await Promise.all(eventIds.map((eventId) => limit(() => fetchOne(eventId))));
  await intake.take(had);
}
