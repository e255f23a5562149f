/**
 * One turn of a room: up to fifty of its staged events are checked, stored, and admitted to the timeline, parents first.
 * Nothing here asks another server for longer than a moment: what an event lacks is looked for meanwhile, by an errand,
 * and the event has another turn after it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type RoomVersionRules, roomVersionRules } from '../../matrix/room-versions.ts';
import { heldEventIds, insertPdus } from '../../store/events/pdus.ts';
import { type Stay } from '../../store/fence.ts';
import { type SetAside, type StagedPdu, stagePdus } from '../../store/tables/staged-pdus.ts';
import { readMissingParents, readPushedRooms } from '../../store/tables/staged-reads.ts';
import { type CheckOutcome, type KeyResolver } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { type Admission } from '../judge/admission.ts';
import { admitEvents } from '../judge/admit.ts';
import { inStay } from '../in-stay.ts';
import { checkEvents, passed } from '../judge/check-events.ts';
import { ERRAND_MS_MAX, WAIT_MS_MAX } from './budgets.ts';
import { type UnjudgedEvent } from './fetch-auth-events.ts';
import { type UnprovenEvent, refuseUnproven } from './refuse-unproven.ts';
import { type Wait, Waits } from './waits.ts';

/** Events of one turn: what a transaction holds, and what is admitted at once. */
export const TURN_EVENTS_MAX = 50;
/**
 * For judging them: whoever may speak may leave a room with hundreds of ends, and each event beside them then costs. What is
 * decided by then is appended, and the rest of the room waits behind other rooms.
 */
export const JUDGED_MS_MAX = 1_000;
/** For a key that we have not; who needs longer for it does not hold up the events of the room. */
const KEY_WAIT_MS = 250;
/** Turns that ended with a request in vain; with the pauses between them some three hours. */
const ATTEMPTS_MAX = 20;
const TRIES_OF_A_DAY_MIN = 3;
const FIRST_PAUSE_MS = 1_000;
/** When an event behind a gap looks whether to have one of its own; later at doubled distances. */
const GAP_LOOK_MS = 60_000;
const LONGEST_PAUSE_MS = 15 * 60_000;
/** What has no verdict by then gets none; only for an open gap, which has an end of its own, is waited longer. */
export const LONGEST_STAGED_MS = 24 * 3_600_000;
/** A turn that comes so late is one of a process that did not run: what waits for others is given as long as they need to be tried again. */
export const LATE_MS = 10 * 60_000;
const AFTER_OUTAGE_MS = 3_600_000;
/** Longer than an errand may wait for its place, and take. */
const ERRAND_LEASE_MS = 1.5 * (WAIT_MS_MAX + ERRAND_MS_MAX);
/** How much is staged says nothing here. */
const NOTHING_COUNTED = { ofRoom: 1, ofOrigin: 1 };
/** What is beyond a limit of ours, for people; the next version may have another. */
const TOO_LARGE = 'too large for this version';
/** Named in a row; the others are settled by the time these are. */
const AWAITED_MAX = 20;

/** What became of the events of a turn, each of them in one of these. */
export interface TurnOutcome {
  /** There is a verdict. */
  readonly done: readonly number[];
  readonly dropped: readonly { readonly nid: number; readonly reason: string }[];
  readonly aside: readonly SetAside[];
  readonly errands: readonly Errand[];
  /** Its time was over before the others had their turn; they are staged as before. */
  readonly isCut: boolean;
}

/** What events of one server lack, to be looked for outside the turn. */
export interface Errand {
  readonly roomId: RoomId;
  /** The stay that it is for. */
  readonly epoch: number;
  readonly rules: RoomVersionRules;
  readonly origin: ServerName;
  /** What has no turn before the errand is over; events that wait for others are not among it. */
  readonly rows: readonly Pick<StagedPdu, 'nid' | 'attempts' | 'ageMs'>[];
  readonly lacksParents: readonly EventId[];
  readonly lacksAuthEvents: readonly UnjudgedEvent[];
}

/** How long an event rests after an attempt in vain. */
export function pauseAfter(attempts: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** Math.min(attempts, 30), LONGEST_PAUSE_MS);
}

/** How long an event rests that nothing wakes before its turn may come, in milliseconds: as long as it has waited, within bounds. */
export function restAt(ageMs: number): number {
  return Math.min(Math.max(ageMs, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
}

/** `rows`: at least one. Throws `StayOverError` when another stay begins meanwhile, or the room is purged, and else for faults of ours only. */
export async function takeTurn(
  context: RoomsContext,
  roomId: RoomId,
  rows: readonly StagedPdu[],
  signal: AbortSignal,
): Promise<TurnOutcome | 'not-ours'> {
  const [first] = rows;
  const standing =
    first && (await readPushedRooms(context.store, first.origin, [roomId], NOTHING_COUNTED)).rooms.get(roomId);
  if (standing === undefined || (!standing.isAnybodyIn && standing.intents.length === 0)) return 'not-ours';
  if (!standing.isAnybodyIn) {
    const reason = 'waits for our join';
    const aside = rows.map(({ nid }) => ({ nid, reason, waitsFor: standing.intents }));
    return { done: [], dropped: [], aside, errands: [], isCut: false };
  }

  const rules = roomVersionRules(standing.roomVersions[0] ?? '');
  if (rules === undefined || standing.epoch === null) return 'not-ours';
  const turn = new Turn({ roomId, epoch: standing.epoch }, rules);
  const staying = inStay(context, turn.stay);
  const checked = await check(staying, turn, rows, signal);
  const eventIds = [...new Set(checked.map(({ eventId }) => eventId))];
  const now = context.clock.now();
  // Of those who sent the same event the first one counts.
  const receipts = new Map(
    checked
      .toSorted((a, b) => a.ageMs - b.ageMs)
      .map(({ eventId, origin, ageMs }) => [eventId, { server: origin, at: now - ageMs }]),
  );
  const admissions = await admitEvents(staying, roomId, eventIds, { signal, receipts, msMax: JUDGED_MS_MAX });
  await turn.settle(staying, checked, admissions);
  return turn.outcome();
}

/** Checks 1 to 3, and storing; gives the rows whose event is stored. */
async function check(
  context: RoomsContext,
  turn: Turn,
  rows: readonly StagedPdu[],
  signal: AbortSignal,
): Promise<StagedPdu[]> {
  const { roomId, rules } = turn;
  const events = rows.map(({ raw }) => raw);
  const resolveKeys = patientOnly(context.keyRing.resolve);
  // What had a turn before is stored most likely: then it is not verified again.
  const isHeld = rows.some(({ isTriedBefore }) => isTriedBefore)
    ? { isHeld: (ids: readonly EventId[]) => heldEventIds(context.store, roomId, ids) }
    : {};
  const ring = { verification: context.verification, keyRing: { resolve: resolveKeys } };
  const outcomes = await checkEvents(ring, { roomId, rules, events, asker: 'pushed', signal, ...isHeld });
  await insertPdus(context.store, passed(outcomes));
  await readAgain(context, turn, rows, outcomes);
  return rows.filter((row, i) => {
    const outcome = outcomes[i];
    switch (outcome?.outcome) {
      case 'passed':
      case 'skipped':
        return eventIdIn(outcome) === row.eventId;
      case 'key-missing':
        turn.retry(row, `the key ${outcome.keyId ?? ''} of ${outcome.serverName} cannot be had`);
        return false;
      case 'bad-signature':
        turn.drop(row, `badly signed by ${outcome.serverName}: ${outcome.reason}`);
        return false;
      case 'malformed':
        turn.drop(row, `malformed: ${outcome.reason}`);
        return false;
      case undefined:
        return false;
    }
  });
}

function eventIdIn(outcome: CheckOutcome): EventId | null {
  return outcome.outcome === 'passed' ? outcome.pdu.eventId : outcome.eventId;
}

/**
 * What came while a join was under way was read by the version that its resident had told. Where another join has committed, of
 * another version, the event has another id, and is staged by that.
 */
async function readAgain(
  { store }: RoomsContext,
  turn: Turn,
  rows: readonly StagedPdu[],
  outcomes: readonly CheckOutcome[],
): Promise<void> {
  for (const [i, row] of rows.entries()) {
    const outcome = outcomes[i];
    if (outcome?.outcome !== 'passed' && outcome?.outcome !== 'skipped') continue;
    const eventId = eventIdIn(outcome);
    if (eventId === null || eventId === row.eventId) continue;
    const { origin, raw } = row;
    await stagePdus(store, origin, [{ roomId: turn.roomId, eventId, raw, waitsFor: [] }], 'pushed');
    turn.done(row);
  }
}

/** Waits a moment for each key, apart from the others; the ring looks on, and has it the next time. */
function patientOnly(resolve: KeyResolver): KeyResolver {
  return async (requests, signal, asker) => {
    const over = new AbortController();
    try {
      const late = delay(KEY_WAIT_MS, [], { signal: over.signal }).catch(() => []);
      const found = await Promise.all(
        requests.map((request) => Promise.race([resolve([request], signal, asker), late])),
      );
      return found.flat();
    } finally {
      over.abort();
    }
  };
}

/** Sorts the events of a turn by what becomes of them. */
class Turn {
  readonly stay: Stay;
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  readonly #done: number[] = [];
  readonly #dropped: { readonly nid: number; readonly reason: string }[] = [];
  readonly #aside: SetAside[] = [];
  #isCut = false;
  readonly #errands = new Map<
    ServerName,
    { rows: Errand['rows'][number][]; lacksParents: EventId[]; lacksAuthEvents: UnjudgedEvent[] }
  >();

  constructor(stay: Stay, rules: RoomVersionRules) {
    this.stay = stay;
    this.roomId = stay.roomId;
    this.rules = rules;
  }

  done({ nid }: StagedPdu): void {
    this.#done.push(nid);
  }

  drop({ nid }: StagedPdu, reason: string): void {
    this.#dropped.push({ nid, reason });
  }

  /** Another turn after a pause, unless there were enough. */
  retry(row: StagedPdu, reason: string): void {
    if (this.#isTooOften(row)) this.drop(row, reason);
    else this.#aside.push({ nid: row.nid, reason, delayMs: pauseAfter(row.attempts), isAttempt: true });
  }

  async settle(
    context: RoomsContext,
    rows: readonly StagedPdu[],
    admissions: ReadonlyMap<EventId, Admission>,
  ): Promise<void> {
    const waiting = new Map<EventId, readonly EventId[]>();
    for (const [eventId, admission] of admissions) {
      if (admission.outcome === 'waits') waiting.set(eventId, admission.missingParents);
    }
    const asked = [...new Set([...waiting.keys(), ...[...waiting.values()].flat()])];
    const about = await readMissingParents(context.store, this.roomId, asked);
    const waits = new Waits(this.rules, waiting, about);
    const unproven: UnprovenEvent[] = [];
    for (const row of rows) {
      const admission = admissions.get(row.eventId);
      switch (admission?.outcome) {
        case 'known':
        case 'admitted':
          this.done(row);
          break;
        case 'waits':
          this.#wait(row, waits.of(row.eventId));
          break;
        case 'placeless':
          this.drop(row, admission.reason);
          break;
        case 'unjudged': {
          const { missingAuthEvents, reason } = admission;
          if (this.#isTooOften(row)) {
            const tries = `It was asked for in vain ${row.attempts} times.`;
            unproven.push({
              eventId: row.eventId,
              origin: row.origin,
              missingAuthEvents,
              reason: `${reason} ${tries}`,
            });
            // It has a verdict now, with which the next turn takes it in.
            this.#aside.push({ nid: row.nid, reason });
            break;
          }
          const errand = this.#errand(row, reason);
          errand?.lacksAuthEvents.push({ eventId: row.eventId, missingAuthEvents });
          break;
        }
        case 'unresolved':
        case 'too-large':
          // Our own limit, by which nothing is given up, nor what follows: it waits for itself, and is tried again as the states
          // before it may have changed, or be at hand. While they are the same that costs next to nothing (src/rooms/judge/resolve.ts).
          this.#aside.push({
            nid: row.nid,
            reason: admission.outcome === 'too-large' ? `${TOO_LARGE}: ${admission.reason}` : admission.reason,
            waitsFor: [row.eventId],
            delayMs: restAt(row.ageMs),
          });
          break;
        case 'left':
          this.#isCut = true;
          break;
        case 'foreign':
          this.drop(row, 'an event of another room has its id');
          break;
        case 'not-there':
          this.drop(row, 'nobody of us is in the room any more');
          break;
        case undefined:
      }
    }
    await refuseUnproven(context.store, this.roomId, unproven);
    // What events lack that wait for others is fetched meanwhile, or a chain over many servers would have an errand after
    // the other: each server's when its first event's turn has come.
    for (const row of rows) {
      const admission = admissions.get(row.eventId);
      if (admission?.outcome !== 'waits' || admission.missingAuthEvents.length === 0) continue;
      const { missingAuthEvents } = admission;
      this.#errandOf(row.origin).lacksAuthEvents.push({ eventId: row.eventId, missingAuthEvents });
    }
  }

  outcome(): TurnOutcome {
    const { stay, rules } = this;
    const errands = [...this.#errands].map(([origin, errand]) => ({ ...stay, rules, origin, ...errand }));
    return { done: this.#done, dropped: this.#dropped, aside: this.#aside, errands, isCut: this.#isCut };
  }

  #wait(row: StagedPdu, wait: Wait): void {
    if (wait.refused !== undefined) {
      this.drop(row, wait.refused);
    } else if (wait.lacking.length > 0) {
      const reason = `${wait.lacking.length} of its prev_events are not held, ${wait.lacking[0] ?? ''} first`;
      this.#errand(row, reason)?.lacksParents.push(row.eventId);
    } else if (row.isTriedBefore && row.ageMs > LONGEST_STAGED_MS && row.lateMs <= LATE_MS && !wait.isForGap) {
      this.drop(row, 'its prev_events did not come within a day');
    } else {
      const waitsFor = wait.pending.slice(0, AWAITED_MAX);
      const reason = waitsFor.length === 0 ? 'its prev_events have just come' : `waits for ${waitsFor[0] ?? ''}`;
      // The gap may have been tried in vain by then; at an event itself the parents may come before the state, from anybody.
      const lookMs = waitsFor.includes(row.eventId) ? restAt(row.ageMs) : Math.max(GAP_LOOK_MS, row.ageMs);
      const isAfterOutage = row.ageMs > LONGEST_STAGED_MS;
      const again = wait.isForGap ? { delayMs: lookMs } : isAfterOutage ? { delayMs: AFTER_OUTAGE_MS } : {};
      this.#aside.push({ nid: row.nid, reason, waitsFor, ...again });
    }
  }

  /** The errand for this row's sender, unless there were enough for this row. */
  #errand(row: StagedPdu, reason: string) {
    if (this.#isTooOften(row)) {
      this.drop(row, reason);
      return undefined;
    }
    const errand = this.#errandOf(row.origin);
    // Without their texts: an errand may wait.
    errand.rows.push({ nid: row.nid, attempts: row.attempts, ageMs: row.ageMs });
    // Whoever runs the errand wakes it; a process that dies leaves it to the next after the pause.
    this.#aside.push({ nid: row.nid, reason, delayMs: ERRAND_LEASE_MS, isAttempt: true });
    return errand;
  }

  #errandOf(origin: ServerName) {
    const errand = this.#errands.get(origin) ?? { rows: [], lacksParents: [], lacksAuthEvents: [] };
    this.#errands.set(origin, errand);
    return errand;
  }

  #isTooOften({ attempts, ageMs }: StagedPdu): boolean {
    // A day in which no process of ours ran is no try.
    return attempts >= ATTEMPTS_MAX || (attempts >= TRIES_OF_A_DAY_MIN && ageMs > LONGEST_STAGED_MS);
  }
}
