/** Judges events of the timeline again, with those that stand on them, as long as something changes. */
import { type EventId } from '../../matrix/identifiers.ts';
import { type TimelineEvent } from '../../resync/events.ts';
import {
  type CorrectionTarget,
  deleteTargets,
  readStandingOn,
  readUnfollowed,
} from '../../store/events/corrections.ts';
import { type StoredEventState, parentsFirst, readEventStates } from '../../store/events/event-states.ts';
import { type Correcting, commitCorrections, correctedEvent } from './correction-step.ts';
import { type JudgedBatch, judgeAgain } from './judge-again.ts';
import { changesBefore } from './verdict-changes.ts';

/** Events judged in a step, */
const JUDGED_A_STEP = 200;
/** which is over after this long: what is decided is kept, and who watches sees that it goes on. */
const STEP_MS_MAX = 5_000;

type Judged = JudgedBatch['timeline'][number];
type VerdictChanged = Extract<TimelineEvent, { type: 'VerdictChanged' }>;
type StatesChanged = Extract<TimelineEvent, { type: 'StatesChanged' }>;

/** Why an event is looked at. */
interface DueTo {
  readonly cause: number;
  readonly through: EventId;
}

/**
 * Judges the targets and, as far as a step reaches, what stands on them by prev edges, in one go: along a chain each event is due
 * by the one before. `false`: somebody else came in between.
 */
export async function correctTimeline(correcting: Correcting, targets: readonly CorrectionTarget[]): Promise<boolean> {
  const { context, roomId, rules, progress } = correcting;
  const { store, clock } = context;
  const ids = targets.map(({ eventId }) => eventId);
  const standing = await readStandingOn(store, roomId, ids, JUDGED_A_STEP);
  const stored = await readEventStates(store, roomId, [...new Set([...ids, ...standing])]);
  const byPosition = [...stored.values()].sort((a, b) => a.position - b.position);
  const events = parentsFirst(byPosition).slice(0, JUDGED_A_STEP);
  const until = clock.now() + STEP_MS_MAX;
  const { timeline } = await judgeAgain(store, roomId, rules, events, {
    refusesUnlisted: false,
    onEvent: progress.heartbeat,
    isTimeUp: () => clock.now() >= until,
  });
  const judged = timeline.map(({ eventId }) => eventId);
  // A target that is no event of the timeline any more needs no look.
  const looked = [...judged, ...ids.filter((eventId) => !stored.has(eventId))];
  // What they rest on is provisional since they were read: nothing was done, and nobody may take it for a step.
  if (looked.length === 0) return false;
  const changed = timeline.filter((event) => isChanged(event, stored.get(event.eventId)));
  const entries = await entriesOf(correcting, changed, judged, stored, dueToOf(targets, changed, stored));
  return commitCorrections(correcting, async (tx) => {
    if ((await deleteTargets(tx, roomId, looked)) === 0) return [];
    return [...entries, await correctedEvent(tx, correcting, judged.length, changed.length)];
  });
}

function isChanged({ stateBefore, stateAfter, is }: Judged, stored: StoredEventState | undefined): boolean {
  return is !== stored?.verdict || stateBefore !== stored.stateBefore || stateAfter !== stored.stateAfter;
}

/** What each changed event is due to: what made it a target, or else what it stands on or cites and changed with it. */
function dueToOf(
  targets: readonly CorrectionTarget[],
  changed: readonly Judged[],
  stored: ReadonlyMap<EventId, StoredEventState>,
): ReadonlyMap<EventId, DueTo> {
  const dueTo = new Map<EventId, DueTo>(targets.map(({ eventId, cause, through }) => [eventId, { cause, through }]));
  const known = new Map<EventId, DueTo>();
  for (const { eventId } of changed) {
    const { prevEvents = [], authEvents = [] } = stored.get(eventId) ?? {};
    const through = [...prevEvents, ...authEvents].find((cited) => known.has(cited));
    const inherited = through === undefined ? undefined : known.get(through);
    const due = dueTo.get(eventId) ?? (inherited && through ? { cause: inherited.cause, through } : undefined);
    if (due !== undefined) known.set(eventId, due);
  }
  return known;
}

/** What is journalled: each change of a verdict by itself, the others by the states that they lead to. */
async function entriesOf(
  { context, roomId }: Correcting,
  changed: readonly Judged[],
  judged: readonly EventId[],
  stored: ReadonlyMap<EventId, StoredEventState>,
  dueTo: ReadonlyMap<EventId, DueTo>,
): Promise<TimelineEvent[]> {
  const flipped = changed.filter(({ was, is }) => was !== is);
  const changes = await changesBefore(
    context.store,
    flipped.map(({ eventId }) => ({ eventId, cause: dueTo.get(eventId)?.cause ?? 0 })),
  );
  const moved = changed.filter(({ eventId, stateAfter }) => stateAfter !== stored.get(eventId)?.stateAfter);
  const unfollowed = await readUnfollowed(
    context.store,
    roomId,
    moved.map(({ eventId }) => eventId),
    judged,
  );
  const verdicts: VerdictChanged[] = [];
  const states = new Map<string, StatesChanged & { readonly eventIds: EventId[] }>();
  for (const { eventId, was, is, stateBefore, stateAfter, rule, reason, authState } of changed) {
    const { cause, through } = dueTo.get(eventId) ?? { cause: 0, through: eventId };
    const followed = unfollowed.has(eventId) ? {} : ({ followed: true } as const);
    if (was !== is) {
      const why = {
        ...(rule === undefined ? {} : { rule }),
        ...(reason === undefined ? {} : { reason }),
        ...(authState === undefined ? {} : { authState }),
      };
      const about = { eventId, was, is, cause, through, stateBefore, stateAfter } as const;
      verdicts.push(changes.limit({ type: 'VerdictChanged', ...about, ...why, ...followed }));
      continue;
    }
    const name = [stateBefore, stateAfter, cause, unfollowed.has(eventId)].join(' ');
    const alike = states.get(name);
    if (alike !== undefined) alike.eventIds.push(eventId);
    else states.set(name, { type: 'StatesChanged', eventIds: [eventId], stateBefore, stateAfter, cause, ...followed });
  }
  return [...verdicts, ...states.values()];
}
