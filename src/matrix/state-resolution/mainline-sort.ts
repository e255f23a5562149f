/**
 * The mainline ordering of state resolution v2: events by how far along the history of the room's power levels they stand,
 * then by age, then by id.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v2/#definitions
 */
import { authEventIdsOf } from '../auth/auth-events.ts';
import { type EventId } from '../identifiers.ts';
import { type InParts, PART_STEPS } from './parts.ts';
import { type Pdu } from '../pdu.ts';
import { compareIds } from './power-sort.ts';
import { type Resolution } from './state-resolution-input.ts';

type Lookup = Pick<Resolution, 'rules' | 'fetchEvent'>;

/** Not on any path to the mainline: before everything else. */
const OFF_MAINLINE = Number.POSITIVE_INFINITY;

/** @param powerLevelsId the resolved m.room.power_levels, whose line of predecessors is the mainline. */
export function* mainlineSort(
  events: readonly Pdu[],
  powerLevelsId: EventId | undefined,
  lookup: Lookup,
): InParts<Pdu[]> {
  if (events.length < 2) return [...events];
  const mainline = new Mainline(powerLevelsId, lookup);
  const placed: { readonly event: Pdu; readonly steps: number }[] = [];
  for (const event of events) {
    if (placed.push({ event, steps: mainline.stepsTo(event) }) % PART_STEPS === 0) yield;
  }
  return placed
    .sort(
      (a, b) =>
        (a.steps === b.steps ? 0 : b.steps - a.steps) ||
        a.event.originServerTs - b.event.originServerTs ||
        compareIds(a.event.eventId, b.event.eventId),
    )
    .map(({ event }) => event);
}

/**
 * The power levels in force, those they cite, and so on. Followed only as far back as somebody asks: an old room has
 * changed its power levels hundreds of times, and the events that are sorted mostly cite the last of them.
 */
class Mainline {
  readonly #lookup: Lookup;
  /** From the newest, which has 0. */
  readonly #steps = new Map<EventId, number>();
  /** Of events and what they cite, that were asked for. */
  readonly #known = new Map<EventId, number>();
  #next: EventId | undefined;

  constructor(powerLevelsId: EventId | undefined, lookup: Lookup) {
    this.#next = powerLevelsId;
    this.#lookup = lookup;
  }

  /** How far back the closest mainline event is, following power levels from auth events to auth events. */
  stepsTo(event: Pdu): number {
    const path = new Set<EventId>();
    let steps = OFF_MAINLINE;
    for (
      let at: Pdu | undefined = event;
      at !== undefined && !path.has(at.eventId);
      at = powerLevelsCitedBy(at, this.#lookup)
    ) {
      const known = this.#known.get(at.eventId) ?? this.#stepsOf(at);
      if (known !== undefined) {
        steps = known;
        break;
      }
      path.add(at.eventId);
    }
    // Remembered for every event on the way: long histories of power levels are walked once.
    for (const id of path) this.#known.set(id, steps);
    return steps;
  }

  /** Of an event on the mainline. */
  #stepsOf(event: Pdu): number | undefined {
    if (!isPowerLevels(event)) return undefined;
    while (this.#next !== undefined && !this.#steps.has(event.eventId)) this.#follow(this.#next);
    return this.#steps.get(event.eventId);
  }

  #follow(id: EventId): void {
    this.#steps.set(id, this.#steps.size);
    const event = this.#lookup.fetchEvent(id);
    const before = event && powerLevelsCitedBy(event, this.#lookup)?.eventId;
    this.#next = before === undefined || this.#steps.has(before) ? undefined : before;
  }
}

function isPowerLevels({ type, stateKey }: Pdu): boolean {
  return type === 'm.room.power_levels' && stateKey === '';
}

function powerLevelsCitedBy(event: Pdu, { rules, fetchEvent }: Lookup): Pdu | undefined {
  for (const id of authEventIdsOf(event, rules)) {
    const authEvent = fetchEvent(id);
    if (authEvent !== undefined && isPowerLevels(authEvent)) return authEvent;
  }
  return undefined;
}
