/** A small room to fork, and its resolution, for tests of the algorithms of state resolution. */
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { resolveState } from '../../../src/matrix/state-resolution/state-resolution.ts';
import {
  ALICE,
  BOB,
  CREATOR,
  type EventFields,
  ROOM,
  create,
  event,
  joinRules,
  member,
  powerLevels,
  rulesOf,
  stateMapOf,
} from '../room-of-tests.ts';

export const cite = (...events: Pdu[]): { auth: string[] } => ({ auth: events.map(({ eventId }) => eventId) });

/** The ids as `resolved` gives them. */
export const ids = (...events: Pdu[]): string[] => events.map(({ eventId }) => eventId).sort();

/** The state, as the ids that stand in it, of resolving `states`; all events named anywhere are at hand but `missing`. */
export function resolved(
  version: string,
  states: readonly Pdu[][],
  more: { others?: readonly Pdu[]; rejected?: readonly Pdu[]; missing?: readonly Pdu[] } = {},
): readonly string[] {
  const events = new Map([...states.flat(), ...(more.others ?? [])].map((known) => [known.eventId, known]));
  for (const { eventId } of more.missing ?? []) events.delete(eventId);
  const rejected = new Set((more.rejected ?? []).map(({ eventId }) => eventId));
  const state = resolveState({
    rules: rulesOf(version),
    roomId: ROOM,
    stateSets: states.map((state) => stateMapOf(...state)),
    fetchEvent: (id) => events.get(id),
    isRejected: (id) => rejected.has(id),
  });
  return [...state.values()].sort();
}

/** A room in which alice, at 50, and bob have joined. */
export function opening(version: string) {
  const root = create(version);
  const citable = rulesOf(version).roomIdIsCreateHash ? [] : [root];
  const creator = member(CREATOR, 'join', { prev: [root.eventId], ...cite(...citable), depth: 2, ts: 2 });
  const power = powerLevels(
    { users: version === '12' ? { [ALICE]: 50 } : { [CREATOR]: 100, [ALICE]: 50 } },
    { ...cite(...citable, creator), depth: 3, ts: 3 },
  );
  const open = joinRules('public', { ...cite(...citable, creator, power), depth: 4, ts: 4 });
  const alice = member(ALICE, 'join', { ...cite(...citable, power, open), depth: 5, ts: 5 });
  const bob = member(BOB, 'join', { ...cite(...citable, power, open), depth: 6, ts: 6 });
  return { root, citable, creator, power, open, alice, bob, all: [root, creator, power, open, alice, bob] };
}

/** The state with another event in the place of `old`. */
export const replacing = (state: readonly Pdu[], old: Pdu, by: Pdu): Pdu[] =>
  state.map((each) => (each === old ? by : each));

export function topic(sender: string, fields: Partial<EventFields> = {}): Pdu {
  return event({ type: 'm.room.topic', stateKey: '', sender, ...fields });
}
