/** The auth rules asked about events of a simulated room: what a real resident makes of them, by the room's true state. */
import { authEventIdsOf } from '../matrix/auth/auth-events.ts';
import { type AuthState } from '../matrix/auth/auth-verdict.ts';
import { parsePdu } from '../matrix/event-format.ts';
import { type EventId } from '../matrix/identifiers.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';
import { type Pdu } from '../matrix/pdu.ts';
import { type PduVerdict, checkUnPartialStated } from '../matrix/pdu-checks.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { invariant } from '../invariant.ts';
import { type SimulatedEvent, type SimulatedRoom } from './room.ts';

/** Events never change, and the same few of the state are read for each that is judged. */
const parsed = new WeakMap<SimulatedEvent, Pdu>();

/** The current state of a room, as the auth rules read it. */
export function authStateOfRoom(room: SimulatedRoom): AuthState {
  return (type, stateKey) => {
    const event = room.currentEvent(type, stateKey);
    return event === undefined ? undefined : pduOf(event, room.rules);
  };
}

/** Checks 4 and 5 of an event whose auth events are all in the room, by the state before it. */
export function verdictOn(
  room: Pick<SimulatedRoom, 'rules' | 'event' | 'isRejected'>,
  event: Pdu,
  stateBefore: AuthState,
): PduVerdict {
  const { rules, isRejected } = room;
  const authEvents = authEventIdsOf(event, rules)
    .map((id: EventId) => room.event(id))
    .filter((cited) => cited !== undefined)
    .map((cited) => pduOf(cited, rules));
  return checkUnPartialStated({ event, rules, authEvents, isRejected, stateBefore });
}

/** An event of a simulated room, parsed. */
export function pduOf(event: SimulatedEvent, rules: RoomVersionRules): Pdu {
  const known = parsed.get(event);
  if (known !== undefined) return known;
  const read = parseJsonObject(event.json);
  invariant(read.ok, 'events of a simulated room are JSON');
  const result = parsePdu(read.value, rules);
  invariant(result.ok, 'events of a simulated room are well-formed');
  parsed.set(event, result.pdu);
  return result.pdu;
}
