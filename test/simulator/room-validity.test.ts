import { describe, expect, test } from 'vitest';
import { authEventIdsOf } from '../../src/matrix/auth/auth-events.ts';
import { checkContentHash } from '../../src/matrix/signing/hashes.ts';
import { type EventId } from '../../src/matrix/identifiers.ts';
import { checkUnPartialStated } from '../../src/matrix/pdu-checks.ts';
import { type Pdu } from '../../src/matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { requiredSigners, signaturesOf, verifyEventSignature } from '../../src/matrix/signing/signatures.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { resolveState } from '../../src/matrix/state-resolution/state-resolution.ts';
import { type SimulatedRoom } from '../../src/simulator/room.ts';
import { type ServerKeys } from '../../src/simulator/server-keys.ts';
import { allEvents, makeRoom, readPdu } from './room-under-test.ts';

/** Checks 1 to 3 on receipt: what is wrong with an event by itself, if anything. */
function faultOf(pdu: Pdu, room: SimulatedRoom, keys: ServerKeys): string | undefined {
  if (pdu.roomId !== room.roomId) return 'of another room';
  if (checkContentHash(pdu.json) !== 'match') return 'content hash';
  const required = requiredSigners(pdu, room.rules);
  if (!required.ok) return required.reason;
  for (const server of required.servers) {
    const [signature] = signaturesOf(pdu.json, server);
    const { keyId, publicKey } = keys.of(server);
    if (signature?.keyId !== keyId) return `no signature of ${server}`;
    if (!verifyEventSignature(pdu.json, room.rules, server, keyId, publicKey).ok) return `signature of ${server}`;
  }
  return undefined;
}

/** Checks 4 and 5, with the state before the event. */
function verdictOf(pdu: Pdu, stateBefore: StateMap, room: SimulatedRoom, pdus: ReadonlyMap<EventId, Pdu>): string {
  const verdict = checkUnPartialStated({
    event: pdu,
    rules: room.rules,
    authEvents: authEventIdsOf(pdu, room.rules).map((id) => pdus.get(id)!),
    isRejected: () => false,
    stateBefore: (type, stateKey) => pdus.get(stateBefore.get(stateMapKey(type, stateKey)) ?? ('' as EventId)),
  });
  return verdict.outcome === 'accept' ? 'accept' : `${verdict.rule}: ${verdict.reason}`;
}

describe.each(ROOM_VERSIONS)('a generated room of version %s', (roomVersion) => {
  const { room, keys } = makeRoom({ roomVersion });
  const events = allEvents(room);
  const pdus = new Map(events.map((event) => [event.eventId, readPdu(event, room)]));

  test('holds events whose ids, hashes and signatures are right', () => {
    for (const { eventId } of events) expect([eventId, pdus.get(eventId)?.eventId]).toEqual([eventId, eventId]);
    for (const pdu of pdus.values()) expect([pdu.eventId, faultOf(pdu, room, keys)]).toEqual([pdu.eventId, undefined]);
  });

  test('describes each event as it is on the wire', () => {
    for (const event of events) {
      const pdu = pdus.get(event.eventId)!;
      const { type, stateKey, sender, depth, prevEvents, authEvents } = pdu;
      expect(event).toMatchObject({ type, sender, depth, prevEvents, authEvents });
      expect(event.stateKey).toBe(stateKey);
      expect(event.membership).toBe(type === 'm.room.member' ? pdu.content['membership'] : undefined);
    }
  });

  test('is allowed by the auth rules, event by event, with states resolved where it forked, and ends in the current state', () => {
    const after = new Map<EventId, StateMap>();
    const resolveAfter = (ids: readonly EventId[]): StateMap =>
      resolveState({
        rules: room.rules,
        roomId: room.roomId,
        stateSets: ids.map((id) => after.get(id)!),
        fetchEvent: (id) => pdus.get(id),
      });
    let kept = 0;
    for (const { eventId, prevEvents } of events) {
      const pdu = pdus.get(eventId)!;
      const before = resolveAfter(prevEvents);
      expect([eventId, pdu.type, verdictOf(pdu, before, room, pdus)]).toEqual([eventId, pdu.type, 'accept']);
      const told = room.stateBefore(eventId);
      if (told !== undefined) {
        kept++;
        expect(sorted(told)).toEqual(sorted(before));
      }
      const state = new Map(before);
      if (pdu.stateKey !== undefined) state.set(stateMapKey(pdu.type, pdu.stateKey), eventId);
      after.set(eventId, state);
    }
    expect(kept).toBeGreaterThan(60);
    expect(sorted(room.currentState())).toEqual(sorted(resolveAfter(room.extremities)));
  });

  test('forks and merges, in its history and among the recent messages', () => {
    const merges = events.filter(({ prevEvents }) => prevEvents.length > 1);
    expect(merges.length).toBeGreaterThan(5);
    expect(merges.some(({ eventId }) => room.stateBefore(eventId) !== undefined)).toBe(true);
    expect(merges.some(({ eventId }) => room.stateBefore(eventId) === undefined)).toBe(true);
  });
});

test('a room of 13,000 members is allowed by the auth rules, event by event', { timeout: 120_000 }, () => {
  const { room, keys } = makeRoom({ members: 13_000, servers: 1_300, messages: 200, forkShare: 0.02 });
  const pdus = new Map<EventId, Pdu>();
  const state = new Map<string, EventId>();
  // Siblings touch nothing of each other, as the tests of the small rooms show: one state serves, in the order of depth.
  for (const event of allEvents(room)) {
    const pdu = readPdu(event, room);
    pdus.set(event.eventId, pdu);
    const fault = faultOf(pdu, room, keys) ?? verdictOf(pdu, state, room, pdus);
    if (fault !== 'accept') expect([event.eventId, pdu.type, fault]).toEqual([event.eventId, pdu.type, 'accept']);
    if (pdu.stateKey !== undefined) state.set(stateMapKey(pdu.type, pdu.stateKey), event.eventId);
  }
  expect(pdus.size).toBeGreaterThan(13_000);
  expect(sorted(state)).toEqual(sorted(room.currentState()));
  expect(room.joinedCount()).toBe(13_000);
  expect(room.serversInRoom().length).toBe(1_300);
});

function sorted(state: StateMap): string[] {
  return [...state].map(([key, id]) => `${key} ${id}`).sort();
}
