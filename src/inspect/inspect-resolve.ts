/** Which state comes out of states that contradict each other: `rejoinder inspect resolve`. */
import { type EventId, type RoomId } from '../matrix/identifiers.ts';
import { type Inspection, readEvents } from './inspect-document.ts';
import { type Json, type Pdu } from '../matrix/pdu.ts';
import { type Refusal, refuse } from '../matrix/refusal.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../matrix/state-map.ts';
import { resolveState } from '../matrix/state-resolution/state-resolution.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';

/**
 * Resolves `{"events": [ … ], "state_sets": [[event ids], …]}`. `events` holds the events of the states and of their auth
 * chains; one may carry `"event_id"`, which is used as it is. The answer is `{"state": [event ids], "rejected": [ … ]}`,
 * both sorted; `rejected` are the events that the auth rules refused during the resolution and that are not in the state.
 */
export function inspectResolve(source: string | Uint8Array, rules: RoomVersionRules): Inspection {
  const document = parseJsonObject(source);
  if (!document.ok) return document;
  const read = readEvents(document.value, 'events', rules);
  if (!read.ok) return read;
  const { events } = read;
  const states = readStateSets(document.value['state_sets'], events);
  if (!states.ok) return states;
  if (states.roomId === undefined) return { ok: true, answer: { state: [], rejected: [] } };
  const refused = new Set<EventId>();
  const resolved = resolveState({
    rules,
    roomId: states.roomId,
    stateSets: states.stateSets,
    fetchEvent: (id) => events.get(id),
    onRefused: (id) => refused.add(id),
  });
  const state = [...resolved.values()].sort();
  for (const id of state) refused.delete(id);
  return { ok: true, answer: { state, rejected: [...refused].sort() } };
}

/** The room is unknown when all states are empty. */
type StateSets =
  { readonly ok: true; readonly roomId: RoomId | undefined; readonly stateSets: readonly StateMap[] } | Refusal;

/** The states, all of one room; each place of a state is taken once, by a state event of the document. */
function readStateSets(value: Json | undefined, events: ReadonlyMap<EventId, Pdu>): StateSets {
  const wrong = (reason: string): Refusal => refuse('document.state_sets', reason);
  if (!Array.isArray(value)) return wrong('state_sets must be a list of lists of event ids');
  let roomId: RoomId | undefined;
  const stateSets: StateMap[] = [];
  for (const [at, ids] of (value as readonly Json[]).entries()) {
    if (!Array.isArray(ids)) return wrong(`state_sets[${at}] must be a list of event ids`);
    const state = new Map<string, EventId>();
    for (const id of ids as readonly Json[]) {
      const event = typeof id === 'string' ? events.get(id as EventId) : undefined;
      if (event === undefined) return wrong(`state_sets[${at}]: ${JSON.stringify(id)} is not among the events`);
      if (event.stateKey === undefined) return wrong(`state_sets[${at}]: ${event.eventId} is not a state event`);
      roomId ??= event.roomId;
      if (event.roomId !== roomId) return wrong(`state_sets[${at}]: ${event.eventId} is of another room`);
      const place = stateMapKey(event.type, event.stateKey);
      if ((state.get(place) ?? event.eventId) !== event.eventId) {
        return wrong(`state_sets[${at}]: ${event.eventId} is the second event for its type and state key`);
      }
      state.set(place, event.eventId);
    }
    stateSets.push(state);
  }
  return { ok: true, roomId, stateSets };
}
