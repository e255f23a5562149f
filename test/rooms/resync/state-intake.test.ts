import { expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../../src/matrix/pdu.ts';
import { eventIdOf } from '../../../src/matrix/signing/hashes.ts';
import { type RoomsContext } from '../../../src/rooms/context.ts';
import { createStateIntake } from '../../../src/rooms/resync/state-intake.ts';
import { WantedEvents } from '../../../src/rooms/resync/wanted-events.ts';
import { type CheckOutcome } from '../../../src/verification/contract.ts';
import { type CheckInput } from '../../../src/verification/pool.ts';
import { prepareEvent } from '../../../src/verification/prepare.ts';
import { keyLookup, verifyEvent } from '../../../src/verification/verify.ts';
import { rulesOf } from '../../matrix/sample-event.ts';
import { ROOM, bytesOf, keyOfServer, serverName, signedMember } from '../../verification/signed-room.ts';

const signal = new AbortController().signal;

/** An intake for a state of which one event is wanted. Checks as the threads do; nothing that it refuses reaches the store. */
function intakeOf(version: string, eventId: EventId, keys = [keyOfServer(serverName(1))]) {
  const rules = rulesOf(version);
  const check = ({ events }: CheckInput): Promise<CheckOutcome[]> => {
    const options = { rules, roomId: ROOM, capReferences: false };
    const outcomes = events.map((raw) => verifyEvent(prepareEvent(raw, options), rules, keyLookup(keys)).outcome);
    return Promise.resolve(outcomes as CheckOutcome[]);
  };
  const context = { verification: { check }, keyRing: { resolve: () => Promise.resolve(keys) } };
  const wanted = new WantedEvents([eventId], { held: new Set(), foreign: new Set() });
  const intake = createStateIntake(context as unknown as RoomsContext, {
    roomId: ROOM,
    resident: serverName(0),
    rules,
    wanted,
    progress: { signal, heartbeat: () => undefined },
    onStored: () => Promise.resolve(),
  });
  return { intake, wanted };
}

function nested(levels: number): Json {
  let value: Json = [];
  for (let level = 1; level < levels; level++) value = [value];
  return value;
}

const MISSHAPEN: readonly [string, string, JsonObject][] = [
  ['1', 'aliases of 2014 whose sender is no user id', { type: 'm.room.aliases', sender: serverName(1) }],
  ['5', 'aliases whose sender is no user id', { type: 'm.room.aliases', sender: serverName(1) }],
  ['11', 'a fraction', { content: { membership: 'join', n: 1.5 } }],
  ['11', 'a depth of -1', { depth: -1 }],
  ['11', 'nesting of 140 levels', { content: { deep: nested(140) } }],
  ['11', 'more bytes than any event may have', { content: { membership: 'join', name: 'x'.repeat(65_500) } }],
];

test.each(MISSHAPEN)(
  'an event of version %s with %s counts as malformed, and its type is known',
  async (version, _, changes) => {
    const event = { ...signedMember(version, 1), ...changes };
    const eventId = eventIdOf(event, rulesOf(version));
    const { intake, wanted } = intakeOf(version, eventId);
    await intake.take([bytesOf(event)]);
    expect(wanted.holes()).toMatch(/^malformed events \(/);
    const type = changes['type'] ?? 'm.room.member';
    expect(wanted.lacked()).toEqual([{ eventId, why: 'malformed', type, askedOf: [] }]);
  },
);

test('an event signed by a key that had ended counts as badly signed', async () => {
  const event = signedMember('11', 1, { origin_server_ts: 1_000 });
  const eventId = eventIdOf(event, rulesOf('11'));
  const ended = intakeOf('11', eventId, [keyOfServer(serverName(1), 999)]);
  await ended.intake.take([bytesOf(event)]);
  expect(ended.wanted.holes()).toContain('wrong signature');
  expect(ended.wanted.lacked()).toEqual([{ eventId, why: 'badly-signed', type: 'm.room.member', askedOf: [] }]);
  // One that a fresher answer could let be valid is waited for.
  const stale = intakeOf('11', eventId, [keyOfServer(serverName(1), 999, 1_000)]);
  await stale.intake.take([bytesOf(event)]);
  expect(stale.wanted.holes()).toContain('keys that cannot be had');
});
