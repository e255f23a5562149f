import { expect, test } from 'vitest';
import { chooseParents, depthAfter, givenEventId, sealEvent, unsignedEvent } from '../../src/matrix/compose.ts';
import { parsePdu } from '../../src/matrix/event-format.ts';
import { type KeyId, type RoomId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { ROOM_VERSIONS, roomVersionRules } from '../../src/matrix/room-versions.ts';
import { checkContentHash } from '../../src/matrix/signing/hashes.ts';
import { verifyEventSignature } from '../../src/matrix/signing/signatures.ts';
import { signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';

const origin = 'us.test' as ServerName;
const sender = '@me:us.test' as UserId;
const key = signingKeyFromSeed('ed25519:a_1' as KeyId, new Uint8Array(32).fill(7));
const random = (): number => 0.5;

test.each(ROOM_VERSIONS)('a composed event of version %s is valid, carries its hash and our signature', (version) => {
  const rules = roomVersionRules(version)!;
  const references = rules.eventReferences === 'ids' ? ['$p'] : [['$p:us.test', { sha256: 'abc' }]];
  const roomId = (rules.roomIdIsCreateHash ? `!${'A'.repeat(43)}` : '!room:us.test') as RoomId;
  const draft = { sender, type: 'm.room.topic', stateKey: '', content: { topic: 'snow' } };
  const place = { roomId, prevEvents: references, authEvents: references, depth: 2n, originServerTs: 5 };
  const unsigned = unsignedEvent(draft, place, givenEventId(rules, sender, random));
  const { event, eventId } = sealEvent(unsigned, rules, origin, key);
  const parsed = parsePdu(event, rules);
  expect(parsed).toMatchObject({ ok: true, pdu: { eventId, roomId, type: 'm.room.topic', stateKey: '' } });
  expect(checkContentHash(event)).toBe('match');
  expect(verifyEventSignature(event, rules, origin, key.keyId, key.publicKey)).toEqual({ ok: true });
});

test('a message has no state key, and a create event of version 12 no room id', () => {
  const place = { roomId: undefined, prevEvents: [], authEvents: [], depth: 1n, originServerTs: 5 };
  const event = unsignedEvent({ sender, type: 'm.room.message', content: {} }, place);
  expect(Object.keys(event)).not.toEqual(expect.arrayContaining(['state_key']));
  expect(Object.keys(event)).not.toEqual(expect.arrayContaining(['room_id']));
});

test('a new event builds on all extremities, and on the deepest twenty where there are more', () => {
  const few = [{ depth: 3n }, { depth: 1n }];
  expect(chooseParents(few)).toEqual(few);
  const many = Array.from({ length: 60 }, (_, depth) => ({ depth: BigInt(depth) }));
  const chosen = chooseParents(many);
  expect(chosen).toHaveLength(20);
  expect(chosen.every(({ depth }) => depth >= 40n)).toBe(true);
});

test('it is one deeper than the deepest parent, and never deeper than an event may be', () => {
  for (const version of ROOM_VERSIONS) {
    const rules = roomVersionRules(version)!;
    expect(depthAfter([], rules)).toBe(1n);
    expect(depthAfter([{ depth: 4n }, { depth: 9n }], rules)).toBe(10n);
    expect(depthAfter([{ depth: rules.depthMax }], rules)).toBe(rules.depthMax);
  }
});
