/**
 * The mainline ordering of state resolution v2: events by how far along the history of the room's power levels they stand,
 * then by age, then by id.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v2/#definitions
 */
import { authEventIdsOf } from '../auth/auth-events.ts';
import { type EventId } from '../identifiers.ts';
import { type Pdu } from '../pdu.ts';
import { compareIds } from './power-sort.ts';
import { type Resolution } from './state-resolution-input.ts';

type Lookup = Pick<Resolution, 'rules' | 'fetchEvent'>;

/** Not on any path to the mainline: before everything else. */
const OFF_MAINLINE = 0;

/** @param powerLevelsId the resolved m.room.power_levels, whose line of predecessors is the mainline. */
export function mainlineSort(events: readonly Pdu[], powerLevelsId: EventId | undefined, lookup: Lookup): Pdu[] {
  const mainline: EventId[] = [];
  const seen = new Set<EventId>();
  for (let id = powerLevelsId; id !== undefined && !seen.has(id);) {
    seen.add(id);
    mainline.push(id);
    const event = lookup.fetchEvent(id);
    id = event && powerLevelsCitedBy(event, lookup)?.eventId;
  }
  // The oldest has position 1.
  const positions = new Map(mainline.map((id, index) => [id, mainline.length - index]));
  return events
    .map((event) => ({ event, position: positionOf(event, positions, lookup) }))
    .sort(
      (a, b) =>
        a.position - b.position ||
        a.event.originServerTs - b.event.originServerTs ||
        compareIds(a.event.eventId, b.event.eventId),
    )
    .map(({ event }) => event);
}

/** The position of the closest mainline event, following power levels from auth events to auth events. */
function positionOf(event: Pdu, positions: Map<EventId, number>, lookup: Lookup): number {
  const path = new Set<EventId>();
  let position = OFF_MAINLINE;
  for (
    let at: Pdu | undefined = event;
    at !== undefined && !path.has(at.eventId);
    at = powerLevelsCitedBy(at, lookup)
  ) {
    const known = positions.get(at.eventId);
    if (known !== undefined) {
      position = known;
      break;
    }
    path.add(at.eventId);
  }
  // Remembered for every event on the way: long histories of power levels are walked once.
  for (const id of path) positions.set(id, position);
  return position;
}

function powerLevelsCitedBy(event: Pdu, { rules, fetchEvent }: Lookup): Pdu | undefined {
  for (const id of authEventIdsOf(event, rules)) {
    const authEvent = fetchEvent(id);
    if (authEvent?.type === 'm.room.power_levels' && authEvent.stateKey === '') return authEvent;
  }
  return undefined;
}
