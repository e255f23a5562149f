import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { type FederationClient, type IdentityAsk } from '../../src/federation/contract.ts';
import { FederationError } from '../../src/federation/error.ts';
import { type RoomId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { signEvent, signJson } from '../../src/matrix/signing/signatures.ts';
import { inviteReceiver } from '../../src/rooms/invites/invite-receiver.ts';
import { outsideActs } from '../../src/rooms/invites/outside-acts.ts';
import { sendState } from '../../src/rooms/send/change-membership.ts';
import { clientActs } from '../../src/rooms/send/client-acts.ts';
import { insertUser } from '../../src/store/tables/users.ts';
import { keyOf } from '../matrix/sample-event.ts';
import { A, B, ME, US } from '../support/scripted-room.ts';
import { CAROL, hostRoom, signal } from './resident/hosted-room.ts';

const ID = 'id.test' as ServerName;
const BOB = `@bob:${B}` as UserId;
const publicKey = Buffer.from(keyOf(ID).publicKey, 'base64').toString('base64url');
const VALIDITY = `https://${ID}/isvalid?x=y`;

/** What the identity server has signed. */
const blockFor = (userId: UserId, token = 'token', key = keyOf(ID)): JsonObject =>
  signJson({ mxid: userId, token }, ID, key);

/** A room of ours in which an address was invited, and others whom a test answers for. */
async function startInvited() {
  const here = await hostRoom('11', { preset: 'private_chat' });
  const { roomId, rules } = here;
  const asked: IdentityAsk[] = [];
  const exchanged: unknown[] = [];
  const script: { identity: (ask: IdentityAsk) => JsonObject } = { identity: () => ({ valid: true }) };
  const federation: Partial<FederationClient> = {
    sendInvite: (server, _room, _id, { event }) => Promise.resolve(signEvent(event, rules, server, keyOf(server))),
    askIdentityServer: (ask) => {
      asked.push(ask);
      return Promise.resolve().then(() => script.identity(ask));
    },
    exchangeThirdPartyInvite: (...given) => Promise.resolve(void exchanged.push(given.slice(0, 3))),
  };
  const context = { ...here.context, federation: federation as FederationClient };
  const announce = (token = 'token', content: JsonObject = {}) =>
    sendState(context, roomId, {
      ...{ sender: ME, type: 'm.room.third_party_invite', stateKey: token },
      content: {
        ...{ display_name: 'b…@x', public_key: publicKey, key_validity_url: VALIDITY },
        public_keys: [{ public_key: publicKey, key_validity_url: VALIDITY }],
        ...content,
      },
    });
  const invitesOf = async (userId: UserId): Promise<JsonObject[]> => {
    const rows = await here.store.query<{ json: string }>(
      `SELECT p.json::text AS json FROM pdus p JOIN state_keys k ON k.nid = p.state_key_nid
        WHERE p.room_id = $1 AND k.state_key = $2 AND p.membership = 'invite'`,
      [roomId, userId],
    );
    return rows.map(({ json }) => (JSON.parse(json) as { content: JsonObject }).content);
  };
  const receiver = inviteReceiver(context);
  const exchange = (changes: object = {}) =>
    receiver.exchangeInvite({ roomId, sender: ME, userId: BOB, signed: blockFor(BOB), signal, ...changes });
  return { ...here, context, announce, invitesOf, receiver, exchange, asked, exchanged, script };
}

test('who has bound the identifier that a user of ours invited is invited, by what the identity server signed, and once', async () => {
  const here = await startInvited();
  await here.announce();
  await here.exchange();
  const invite = { display_name: 'b…@x', signed: blockFor(BOB) };
  expect(await here.invitesOf(BOB)).toEqual([{ membership: 'invite', third_party_invite: invite }]);
  expect(here.asked.map(({ method, url }) => [method, url])).toEqual([['GET', `${VALIDITY}&public_key=${publicKey}`]]);
  // The answer was lost.
  await here.exchange();
  expect(await here.invitesOf(BOB)).toHaveLength(1);
  expect(here.asked).toHaveLength(1);
});

test('an invite of ours says what the identity server has signed, and nothing that whoever asks for it put beside that', async () => {
  const here = await startInvited();
  await here.announce();
  const signed = blockFor(BOB);
  const others = {
    'z.test': { 'ed25519:x': 'anything' },
    [ID]: { ...(signed['signatures'] as Record<string, JsonObject>)[ID], more: 'x' },
  };
  await here.exchange({ signed: { ...signed, unsigned: { words: 'of a stranger' }, signatures: others } });
  expect(await here.invitesOf(BOB)).toEqual([
    { membership: 'invite', third_party_invite: { display_name: 'b…@x', signed } },
  ]);
});

test('nobody is invited by what no key of the room verifies, and no identity server is asked about it', async () => {
  const here = await startInvited();
  await here.announce();
  for (const changes of [
    { signed: blockFor(BOB, 'token', keyOf(A)) },
    { signed: { ...blockFor(BOB), signatures: {} } },
    { signed: blockFor(BOB, 'another') },
    { signed: blockFor(CAROL) },
    { sender: CAROL },
  ]) {
    await expect(here.exchange(changes)).rejects.toMatchObject({ kind: 'forbidden' });
  }
  await expect(here.exchange({ roomId: '!none:x.test' as RoomId })).rejects.toMatchObject({ kind: 'unknown-room' });
  expect(here.asked).toEqual([]);
  expect(await here.invitesOf(BOB)).toEqual([]);
});

test('nobody is invited by a key that was taken back, or of which nobody says whether it was', async () => {
  const here = await startInvited();
  await here.announce();
  here.script.identity = () => ({ valid: false });
  await expect(here.exchange()).rejects.toMatchObject({ kind: 'forbidden' });
  here.script.identity = () => {
    throw new FederationError(ID, 'unreachable', 'down');
  };
  await expect(here.exchange()).rejects.toMatchObject({ kind: 'busy' });
  await here.announce('odd', { key_validity_url: 7 });
  await expect(here.exchange({ signed: blockFor(BOB, 'odd') })).rejects.toMatchObject({ kind: 'forbidden' });
  expect(here.asked).toHaveLength(2);
  expect(await here.invitesOf(BOB)).toEqual([]);
});

test('what an identity server tells of a user of ours has his invites made: by us in our rooms, by residents in theirs', async () => {
  const here = await startInvited();
  await here.announce();
  const userId = `@dora:${US}` as UserId;
  const theirs = { roomId: '!theirs:a.test' as RoomId, sender: CAROL, signed: blockFor(userId, 'theirs') };
  const ours = { roomId: here.roomId, sender: ME, signed: blockFor(userId) };
  const wrong = { ...ours, signed: blockFor(userId, 'none') };
  const bound = { sentFrom: '192.0.2.1', userId, invites: [wrong, theirs, ours], signal };
  await expect(here.receiver.boundIdentifier(bound)).rejects.toMatchObject({ kind: 'forbidden' });
  await insertUser(here.store, { userId, passwordHash: null, isAdmin: false, createdAt: 1 });
  await here.receiver.boundIdentifier(bound);
  expect(await here.invitesOf(userId)).toMatchObject([{ third_party_invite: { signed: blockFor(userId) } }]);
  const content = { membership: 'invite', third_party_invite: { display_name: '', signed: theirs.signed } };
  const event = { type: 'm.room.member', room_id: theirs.roomId, sender: CAROL, state_key: userId, content };
  expect(here.exchanged).toEqual([[A, theirs.roomId, event]]);
});

test('no more notices are worked on at a time than a few, and of one sender so few that others have their turn', async () => {
  const here = await startInvited();
  const userId = `@dora:${US}` as UserId;
  await insertUser(here.store, { userId, passwordHash: null, isAdmin: false, createdAt: 1 });
  const tell = (sentFrom: string) => here.receiver.boundIdentifier({ sentFrom, userId, invites: [], signal });
  const taken = async (senders: readonly string[]): Promise<boolean[]> =>
    (await Promise.allSettled(senders.map(tell))).map(({ status }) => status === 'fulfilled');
  const one = '192.0.2.1';
  expect(await taken([one, one, one, one, '192.0.2.2'])).toEqual([true, true, false, false, true]);
  const many = Array.from({ length: 18 }, (_, i) => `198.51.100.${i}`);
  expect(await taken(many)).toEqual(many.map((_, i) => i < 16));
  expect(await taken([one])).toEqual([true]);
});

/** Invites by an address, as a client asks for it. */
async function startInviting() {
  const here = await startInvited();
  const acts = clientActs(here.context, {
    join: () => Promise.reject(new Error('nobody joins')),
    outside: outsideActs(here.context),
    profileChanged: () => undefined,
  });
  const invite = (sender = ME) =>
    acts.inviteByIdentifier({
      ...{ roomId: here.roomId, sender, idServer: ID, idAccessToken: 'secret' },
      ...{ medium: 'email', address: 'bob@x.test', signal },
    });
  const hash = createHash('sha256').update('bob@x.test email pepper').digest('base64url');
  return { ...here, invite, hash };
}

test('an address that somebody has bound is an invite of him, and the identity server sees no more than its hash', async () => {
  const here = await startInviting();
  here.script.identity = ({ url }) =>
    url.endsWith('/hash_details')
      ? { lookup_pepper: 'pepper', algorithms: ['none', 'sha256'] }
      : { mappings: { [here.hash]: BOB } };
  await here.invite();
  expect(await here.invitesOf(BOB)).toEqual([{ membership: 'invite' }]);
  const base = `https://${ID}/_matrix/identity/v2`;
  expect(here.asked).toEqual([
    { method: 'GET', url: `${base}/hash_details`, token: 'secret' },
    {
      ...{ method: 'POST', url: `${base}/lookup`, token: 'secret' },
      content: { addresses: [here.hash], algorithm: 'sha256', pepper: 'pepper' },
    },
  ]);
});

test('an address that nobody has bound is kept by the identity server, and the room is told by what it gives', async () => {
  const here = await startInviting();
  const stored = { token: 'token', display_name: 'b…@x', public_keys: [{ public_key: publicKey }] };
  here.script.identity = ({ url }) => {
    if (url.endsWith('/hash_details')) return { lookup_pepper: 'pepper', algorithms: ['sha256'] };
    return url.endsWith('/lookup') ? { mappings: {} } : url.endsWith('/store-invite') ? stored : { valid: true };
  };
  await here.invite();
  expect(here.asked.at(-1)).toMatchObject({
    content: { medium: 'email', address: 'bob@x.test', room_id: here.roomId, sender: ME },
  });
  // It is what lets him in later.
  await here.exchange();
  expect(await here.invitesOf(BOB)).toMatchObject([{ third_party_invite: { display_name: 'b…@x' } }]);
  expect(here.asked.at(-1)!.url).toContain(`https://${ID}/_matrix/identity/v2/pubkey/isvalid?public_key=`);
});

test('who may not invite has nobody asked, and an identity server that answers otherwise than it should leaves nothing', async () => {
  const here = await startInviting();
  await expect(here.invite(`@eve:${US}` as UserId)).rejects.toMatchObject({ kind: 'forbidden' });
  expect(here.asked).toEqual([]);
  const details = { lookup_pepper: 'pepper', algorithms: ['sha256'] };
  for (const [hashes, lookup, stored] of [
    [{}, {}, {}],
    [{ ...details, algorithms: ['md5'] }, {}, {}],
    [details, {}, {}],
    [details, { mappings: { [here.hash]: 'bob' } }, {}],
    [details, { mappings: {} }, {}],
    [details, { mappings: {} }, { token: 'token', display_name: 'b', public_keys: [] }],
    [
      details,
      { mappings: {} },
      { token: 'x'.repeat(501), display_name: 'b', public_keys: [{ public_key: publicKey }] },
    ],
  ] as readonly (readonly [JsonObject, JsonObject, JsonObject])[]) {
    here.script.identity = ({ url }) =>
      url.endsWith('/hash_details') ? hashes : url.endsWith('/lookup') ? lookup : stored;
    await expect(here.invite()).rejects.toMatchObject({ kind: 'unusable-answer' });
  }
  here.script.identity = () => {
    throw new FederationError(ID, 'forbidden', 'no', { status: 401 });
  };
  await expect(here.invite()).rejects.toMatchObject({ kind: 'forbidden' });
  here.script.identity = () => {
    throw new FederationError(ID, 'timeout', 'silence');
  };
  await expect(here.invite()).rejects.toMatchObject({ kind: 'no-resident' });
  const rows = await here.store.query(`SELECT FROM pdus WHERE type = 'm.room.third_party_invite'`);
  expect(rows).toEqual([]);
});
