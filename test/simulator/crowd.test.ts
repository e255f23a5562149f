import { describe, expect, test } from 'vitest';
import { authoriseAgainstState } from '../../src/matrix/auth/auth-rules.ts';
import { type EventId, domainOf } from '../../src/matrix/identifiers.ts';
import { checkContentHash } from '../../src/matrix/signing/hashes.ts';
import { verifyEventSignature } from '../../src/matrix/signing/signatures.ts';
import { authStateOfRoom } from '../../src/simulator/room-verdicts.ts';
import { makeRoom, readPdu } from './room-under-test.ts';

describe.each(['3', '10', '11', '12'])('a crowd in a room of version %s', (roomVersion) => {
  const { room, keys } = makeRoom({ roomVersion, members: 30, servers: 7, messages: 5, crowd: 50 });
  const { crowd } = room;

  test('is of members whose joins are right, and allowed where they stand', () => {
    const members = [...crowd].map((event) => readPdu(event, room));
    expect(members.map(({ eventId }) => eventId)).toEqual(crowd.ids());
    expect(new Set(members.map(({ stateKey }) => stateKey)).size).toBe(50);
    for (const pdu of members) {
      const server = domainOf(pdu.sender);
      const { keyId, publicKey } = keys.of(server);
      expect(checkContentHash(pdu.json)).toBe('match');
      expect(verifyEventSignature(pdu.json, room.rules, server, keyId, publicKey).ok).toBe(true);
      expect(authoriseAgainstState(pdu, authStateOfRoom(room), room.rules)).toMatchObject({ ok: true });
      expect(room.serversInRoom()).toContain(server);
    }
  });

  test('is told by its length before it is made, and is the same each time', () => {
    const made = [...crowd];
    expect(crowd.bytes).toBe(made.reduce((sum, { json }) => sum + json.length, 0));
    expect([...crowd]).toEqual(made);
    expect(room.event(crowd.ids()[17]!)).toEqual(made[17]);
    expect(crowd.event('$nobody' as EventId)).toBeUndefined();
  });
});

test('a room of a version whose events choose their ids has no crowd', () => {
  expect(() => makeRoom({ roomVersion: '2', crowd: 1 })).toThrow('ids that are hashes');
});
