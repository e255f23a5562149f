import { describe, test } from 'vitest';
import { parseKeyId, parseServerName } from '../../../src/matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../../src/matrix/pdu.ts';
import { signJson } from '../../../src/matrix/signing/signatures.ts';
import { signingKeyFromSeed } from '../../../src/matrix/signing/signing-key.ts';
import { ALICE, BOB, event, member } from '../room-of-tests.ts';
import { ALL, expectVerdict, withMembers } from '../verdicts.ts';

const IDENTITY = parseServerName('identity.example')!;
const KEY = signingKeyFromSeed(parseKeyId('ed25519:0')!, new Uint8Array(32).fill(1));
const OTHER_KEY = signingKeyFromSeed(parseKeyId('ed25519:0')!, new Uint8Array(32).fill(2));
const SMALL_ORDER_KEY = 'AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';

const signed = (content: JsonObject = { mxid: BOB, token: 'token' }, key = KEY): JsonObject =>
  signJson(content, IDENTITY, key);
const announced = (content: JsonObject, sender = ALICE): Pdu =>
  event({ type: 'm.room.third_party_invite', sender, stateKey: 'token', content });
const invite = (third_party_invite: JsonObject[string]): Pdu =>
  member(BOB, 'invite', { sender: ALICE, content: { third_party_invite } });
const state = withMembers(announced({ public_key: KEY.publicKey }));

describe('a third-party invite', () => {
  test('lets in whom the identity server vouches for, whoever else may invite', () => {
    expectVerdict(ALL, 'allowed', invite({ signed: signed() }), state);
    const listed = withMembers(
      announced({ public_keys: [{ public_key: OTHER_KEY.publicKey }, { public_key: KEY.publicKey }] }),
    );
    expectVerdict(ALL, 'allowed', invite({ signed: signed() }), listed);
    const keyFirst = withMembers(announced({ public_key: KEY.publicKey, public_keys: [{}] }));
    expectVerdict(ALL, 'allowed', invite({ signed: signed() }), keyFirst);
    for (const public_keys of ['x', { x: 1 }]) {
      const besideNonsense = withMembers(announced({ public_key: KEY.publicKey, public_keys }));
      expectVerdict(ALL, 'allowed', invite({ signed: signed() }), besideNonsense);
    }
  });

  test('does not count for the banned', () => {
    const banned = withMembers(announced({ public_key: KEY.publicKey }), member(BOB, 'ban'));
    expectVerdict(ALL, 'invite-target-banned', invite({ signed: signed() }), banned);
  });

  test('is refused when it is malformed', () => {
    const unsigned = { mxid: BOB, token: 'token' };
    for (const block of [
      null,
      {},
      'x',
      { signed: null },
      { signed: {} },
      { signed: unsigned },
      { signed: signed({ mxid: BOB }) },
    ]) {
      expectVerdict(ALL, 'invite-third-party-malformed', invite(block), state);
    }
    const numbered = { ...signed(), token: 1 };
    expectVerdict(ALL, 'invite-third-party-malformed', invite({ signed: numbered }), state);
  });

  test('is for the one it names, by a token that the state holds', () => {
    expectVerdict(ALL, 'invite-third-party-token', invite({ signed: signed({ mxid: ALICE, token: 'token' }) }), state);
    expectVerdict(ALL, 'invite-third-party-token', invite({ signed: signed({ mxid: BOB, token: 'other' }) }), state);
  });

  test('is sent by who announced it', () => {
    const ofBob = withMembers(announced({ public_key: KEY.publicKey }, BOB));
    expectVerdict(ALL, 'invite-third-party-sender', invite({ signed: signed() }), ofBob);
  });

  test('bears a signature by a key that was announced', () => {
    const refused = 'invite-third-party-signature';
    expectVerdict(ALL, refused, invite({ signed: signed(undefined, OTHER_KEY) }), state);
    expectVerdict(ALL, refused, invite({ signed: { ...signed(), extra: 1 } }), state);
    expectVerdict(ALL, 'allowed', invite({ signed: { ...signed(), unsigned: { extra: 1 } } }), state);
    for (const signatures of [
      {},
      { [IDENTITY]: 1 },
      { [IDENTITY]: {} },
      { [IDENTITY]: { 'rsa:0': 'x' } },
      { [IDENTITY]: { 'ed25519:0': 1 } },
    ]) {
      expectVerdict(ALL, refused, invite({ signed: { ...signed(), signatures } }), state);
    }
    for (const content of [
      {},
      { public_key: 1 },
      { public_key: 'x' },
      { public_key: SMALL_ORDER_KEY },
      { public_keys: 1 },
      { public_keys: [1] },
    ]) {
      expectVerdict(ALL, refused, invite({ signed: signed() }), withMembers(announced(content)));
    }
  });

  test('looks at the first ed25519 signature only, and no further than the first key that is none, as Synapse does', () => {
    const refused = 'invite-third-party-signature';
    const valid = signed()['signatures'] as JsonObject;
    const preceded = { 'a.example': { 'ed25519:0': 'AAAA' }, ...valid };
    expectVerdict(ALL, refused, invite({ signed: { ...signed(), signatures: preceded } }), state);
    const followed = { ...valid, 'z.example': { 'ed25519:0': 'AAAA' } };
    expectVerdict(ALL, 'allowed', invite({ signed: { ...signed(), signatures: followed } }), state);
    const spoilt = withMembers(announced({ public_keys: [{}, { public_key: KEY.publicKey }] }));
    expectVerdict(ALL, refused, invite({ signed: signed() }), spoilt);
  });
});
