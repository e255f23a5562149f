import { describe, expect, test } from 'vitest';
import { authEventIdsOf, stateNeededToAuthorise } from '../../../src/matrix/auth/auth-events.ts';
import { authoriseAgainstState } from '../../../src/matrix/auth/auth-rules.ts';
import { type RoomId } from '../../../src/matrix/identifiers.ts';
import { stateSetsForPartialCheck } from '../../../src/matrix/pdu-checks.ts';
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { roomVersionRules } from '../../../src/matrix/room-versions.ts';
import { stateMapKey } from '../../../src/matrix/state-map.ts';
import { authStatesOf } from '../../../src/rooms/judge/auth-state.ts';
import { partialAuthStatesOf } from '../../../src/rooms/judge/partial-auth-state.ts';
import { createCaches } from '../../../src/store/caches.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { type RandomRoom, makeRandomRoom } from '../../differential/random-room.ts';
import { createRandom } from '../../differential/random.ts';
import { cite, opening } from '../../matrix/state-resolution/resolution-of-tests.ts';
import { ALICE, CREATOR, event, member, rulesOf, stateMapOf } from '../../matrix/room-of-tests.ts';
import { openTestStore } from '../../support/postgres.ts';
import { type RoomOfEvents, counted, storeRoom, storeState } from './stored-room.ts';

const { store } = await openTestStore();

async function emptied(): Promise<Store> {
  await store.query('TRUNCATE pdus, outlier_verdicts, snapshot_chunks');
  return { ...store, caches: createCaches() };
}

/** A room in which many have joined, and a message of each of fifty. */
function talkingRoom(version: string) {
  const { root, citable, power, open, all } = opening(version);
  const joins = Array.from({ length: 1_000 }, (_, i) =>
    member(`@user${String(i)}:one`, 'join', { ...cite(...citable, power, open), ts: 10 + i }),
  );
  const messages = joins
    .slice(0, 50)
    .map((join) =>
      event({ type: 'm.room.message', sender: join.sender, ...cite(...citable, power, join), content: { body: '' } }),
    );
  const events = new Map([...all, ...joins].map((known) => [known.eventId, known]));
  const room: RoomOfEvents = { roomId: root.roomId, rules: rulesOf(version), events, rejected: new Set() };
  return { room, all, joins, messages, citable, power, open };
}

const idsNeeded = (room: RoomOfEvents, event: Pdu, state: (type: string, stateKey: string) => Pdu | undefined) =>
  stateNeededToAuthorise(event, room.rules).map(({ type, stateKey }) => state(type, stateKey)?.eventId);

describe('what the rules read of a state', () => {
  test('comes in a handful of statements for fifty events, and in none the next time', async () => {
    const { room, all, joins, messages } = talkingRoom('10');
    await storeRoom(await emptied(), room);
    const state = stateMapOf(...all, ...joins.slice(1));
    const snapshot = await storeState(store, room, state);
    const { sql, statements } = counted(store);
    const wanted = messages.map((message) => ({ snapshot, event: message }));
    const expected = messages.map((message) =>
      stateNeededToAuthorise(message, room.rules).map((key) => state.get(stateMapKey(key.type, key.stateKey))),
    );
    for (const statementsMax of [5, 0]) {
      statements.length = 0;
      const states = await authStatesOf(sql, room.roomId, room.rules, wanted);
      expect(states.map((each, i) => idsNeeded(room, messages[i]!, each))).toEqual(expected);
      expect(statements.length).toBeLessThanOrEqual(statementsMax);
    }
  });

  test('is never that of another room, though its chunks are at hand', async () => {
    const { room, all, messages } = talkingRoom('10');
    const sql = await emptied();
    await storeRoom(sql, room);
    const snapshot = await storeState(sql, room, stateMapOf(...all));
    await authStatesOf(sql, room.roomId, room.rules, [{ snapshot, event: messages[0]! }]);
    const elsewhere = authStatesOf(sql, '!other:one' as RoomId, room.rules, [{ snapshot, event: messages[0]! }]);
    await expect(elsewhere).rejects.toThrow('is not stored');
  });
});

describe('what the rules read of a partial state', () => {
  test('comes in a handful of statements for fifty senders of whom nothing is known', async () => {
    const { room, all, joins, messages } = talkingRoom('10');
    await storeRoom(await emptied(), room);
    const snapshot = await storeState(store, room, stateMapOf(...all));
    const { sql, statements } = counted(store);
    const wanted = messages.map((message) => ({
      ...{ snapshot, event: message },
      authEvents: message.authEvents.map((id) => room.events.get(id)!),
    }));
    for (const statementsMax of [16, 4]) {
      statements.length = 0;
      const states = await partialAuthStatesOf(sql, room.roomId, room.rules, wanted);
      expect(states.map((state, i) => state('m.room.member', joins[i]!.sender)?.eventId)).toEqual(
        joins.slice(0, 50).map(({ eventId }) => eventId),
      );
      expect(statements.length).toBeLessThanOrEqual(statementsMax);
    }
  });

  test('has a ban that we know above what the event claims, and claims of events that are judged with it', async () => {
    const { room, all, messages, citable, power, open, joins } = talkingRoom('10');
    const [message, other] = messages as [Pdu, Pdu];
    const [join] = joins as [Pdu];
    const creator = all[1]!;
    const ban = member(join.sender, 'ban', { sender: CREATOR, ...cite(...citable, creator, power, join), ts: 9_000 });
    const fresh = member(ALICE, 'join', { ...cite(...citable, power, open), ts: 9_001 });
    const stored = { ...room, events: new Map([...room.events, [ban.eventId, ban]]) };
    const sql = await emptied();
    await storeRoom(sql, stored);
    const known = all.filter(({ stateKey }) => stateKey !== ALICE);
    const snapshot = await storeState(sql, room, stateMapOf(...known, ban));
    const authEventsOf = (each: Pdu): Pdu[] => each.authEvents.map((id) => room.events.get(id)!);
    const byAlice = { ...other, sender: ALICE as Pdu['sender'] };
    const claims = [...authEventsOf(other).filter(({ type }) => type !== 'm.room.member'), fresh];
    const [ofBanned, ofAlice] = await partialAuthStatesOf(sql, room.roomId, room.rules, [
      { snapshot, event: message, authEvents: authEventsOf(message) },
      { snapshot, event: byAlice, authEvents: claims },
    ]);
    expect(authoriseAgainstState(message, ofBanned!, room.rules).ok).toBe(false);
    expect(authoriseAgainstState(byAlice, ofAlice!, room.rules).ok).toBe(true);
  });

  test('gives the verdict that the resolution of both states whole gives, in nearly all random rooms', async () => {
    const ROOMS = 60;
    let judged = 0;
    const differing: string[] = [];
    for (let seed = 1; seed <= ROOMS; seed++) {
      const random = createRandom(seed);
      const version = random.pick(['1', '6', '10', '12']);
      const room: RandomRoom = makeRandomRoom(roomVersionRules(version)!, random, 40);
      const sql = await emptied();
      await storeRoom(sql, room);
      const [full] = [random.pick([...room.stateAfter.values()])];
      // What a resident leaves out: memberships.
      const known = new Map(
        [...full].filter(([, id]) => room.events.get(id)!.type !== 'm.room.member' || random.chance(0.3)),
      );
      const snapshot = await storeState(sql, room, known);
      const accepted = [...room.events.values()].filter((each) => each.type !== 'm.room.create');
      const wanted = accepted.map((each) => ({
        ...{ snapshot, event: each },
        authEvents: authEventIdsOf(each, room.rules).flatMap((id) => room.events.get(id) ?? []),
      }));
      const states = await partialAuthStatesOf(sql, room.roomId, room.rules, wanted);
      wanted.forEach(({ event: each, authEvents }, i) => {
        if (authEvents.some(({ eventId }) => room.rejected.has(eventId))) return;
        const whole = room.resolved(stateSetsForPartialCheck(known, authEvents));
        const expected = authoriseAgainstState(each, room.lookup(whole), room.rules).ok;
        judged += 1;
        if (authoriseAgainstState(each, states[i]!, room.rules).ok !== expected) {
          differing.push(`${String(seed)} ${each.eventId}`);
        }
      });
    }
    expect(judged).toBeGreaterThan(1_000);
    expect(differing.length / judged).toBeLessThan(0.03);
  });
});
