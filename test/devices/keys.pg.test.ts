import { describe, expect, test } from 'vitest';
import { roomsContextOf, startClientApi } from '../client-api/client.ts';
import { createDevices } from '../../src/devices/devices.ts';
import { type FederationClient } from '../../src/federation/contract.ts';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { canonicalJson } from '../../src/matrix/json/canonical-json.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type SigningKey, generateSigningKey, signBytes } from '../../src/matrix/signing/signing-key.ts';
import { readUntold } from './untold.ts';
import { randomBytes } from 'node:crypto';
import { openTestStore } from '../support/postgres.ts';

const { store } = await openTestStore();
const V3 = '/_matrix/client/v3';

interface Signer {
  readonly key: SigningKey;
  readonly publicKey: string;
}

function signer(): Signer {
  const key = generateSigningKey(randomBytes);
  return { key, publicKey: key.publicKey };
}

/** A key by which a user vouches, signed by others. */
function crossSigning(userId: string, usage: string, { publicKey }: Signer, by: Readonly<Record<string, Signer>> = {}) {
  return signed({ user_id: userId, usage: [usage], keys: { [`ed25519:${publicKey}`]: publicKey } }, userId, by);
}

function signed(object: JsonObject, userId: string, by: Readonly<Record<string, Signer>>): JsonObject {
  const text = Buffer.from(canonicalJson(object));
  const made = Object.entries(by).map(([keyId, { key }]) => [`ed25519:${keyId}`, signBytes(key, text)] as const);
  return made.length === 0 ? object : { ...object, signatures: { [userId]: Object.fromEntries(made) } };
}

function deviceKeys(userId: string, deviceId: string, by: Signer): JsonObject {
  const object = {
    ...{ user_id: userId, device_id: deviceId, algorithms: ['m.megolm.v1.aes-sha2'] },
    keys: { [`ed25519:${deviceId}`]: by.publicKey, [`curve25519:${deviceId}`]: 'curve' },
  };
  return signed(object, userId, { [deviceId]: by });
}

describe('keys of devices', () => {
  test('are given to whoever asks for them, all or those that are named, with the name of the device', async () => {
    const client = await startClientApi(store);
    const [alice, bob] = [await client.user('alice', { deviceId: 'A1' }), await client.user('bob')];
    const userId = '@alice:here.test';
    await client.ask('PUT', `${V3}/devices/A1`, { display_name: 'phone' }, alice);
    const keys = deviceKeys(userId, 'A1', signer());
    expect((await client.ask('POST', `${V3}/keys/upload`, { device_keys: keys }, alice)).status).toBe(200);
    const query = async (named: readonly string[]) =>
      (await client.ask('POST', `${V3}/keys/query`, { device_keys: { [userId]: named } }, bob)).body;
    expect(await query([])).toEqual({
      device_keys: { [userId]: { A1: { ...keys, unsigned: { device_display_name: 'phone' } } } },
      ...{ master_keys: {}, self_signing_keys: {}, user_signing_keys: {}, failures: {} },
    });
    expect((await query(['A1']))['device_keys']).toMatchObject({ [userId]: { A1: {} } });
    expect((await query(['other']))['device_keys']).toEqual({ [userId]: {} });
  });

  test('that are given once are given to one of many who claim them at once; then the fallback key is, again and again', async () => {
    const client = await startClientApi(store);
    const [carol, dave] = [await client.user('carol', { deviceId: 'C1' }), await client.user('dave')];
    const key = (name: string) => ({ key: name, signatures: { '@carol:here.test': { 'ed25519:C1': 'sig' } } });
    const upload = {
      one_time_keys: { 'signed_curve25519:1': key('first'), 'signed_curve25519:2': key('second') },
      fallback_keys: { 'signed_curve25519:F': { ...key('fallback'), fallback: true } },
    };
    await client.ask('POST', `${V3}/keys/upload`, upload, carol);
    const claim = async () => {
      const wanted = { one_time_keys: { '@carol:here.test': { C1: 'signed_curve25519' } } };
      const { body } = await client.ask('POST', `${V3}/keys/claim`, wanted, dave);
      const given = body['one_time_keys'] as Record<string, Record<string, JsonObject>>;
      return Object.keys(given['@carol:here.test']?.['C1'] ?? {});
    };
    const first = await Promise.all([claim(), claim()]);
    expect(first.flat().sort()).toEqual(['signed_curve25519:1', 'signed_curve25519:2']);
    expect([await claim(), await claim()]).toEqual([['signed_curve25519:F'], ['signed_curve25519:F']]);
    const { body } = await client.ask('GET', `${V3}/sync`, undefined, carol);
    expect(body).toMatchObject({ device_one_time_keys_count: {}, device_unused_fallback_key_types: [] });
    const none = { one_time_keys: { '@carol:here.test': { NONE: 'signed_curve25519' } } };
    expect(await client.ask('POST', `${V3}/keys/claim`, none, dave)).toMatchObject({
      status: 200,
      body: { one_time_keys: {}, failures: {} },
    });
  });

  test('that are new, or gone with their device, are to be told to other servers; the same again are not', async () => {
    const client = await startClientApi(store);
    const token = await client.user('erin', { deviceId: 'E1' });
    const userId = '@erin:here.test' as UserId;
    const upload = { device_keys: deviceKeys(userId, 'E1', signer()) };
    await client.ask('POST', `${V3}/keys/upload`, upload, token);
    const first = await readUntold(store, userId);
    expect(first.map(({ deviceId }) => deviceId)).toEqual(['E1']);
    await client.ask('POST', `${V3}/keys/upload`, upload, token);
    expect(await readUntold(store, userId)).toEqual(first);
    await client.ask('POST', `${V3}/logout`, {}, token);
    const last = await readUntold(store, userId);
    expect(last[0]!.position).toBeGreaterThan(first[0]!.position);
  });
});

describe('cross-signing', () => {
  test('needs no password for the first keys, and one for others in their place', async () => {
    const client = await startClientApi(store);
    const token = await client.user('fred', { deviceId: 'F1' });
    const userId = '@fred:here.test';
    const path = `${V3}/keys/device_signing/upload`;
    const keys = () => {
      const [master, self, user] = [signer(), signer(), signer()];
      return {
        master_key: crossSigning(userId, 'master', master),
        self_signing_key: crossSigning(userId, 'self_signing', self, { [master.publicKey]: master }),
        user_signing_key: crossSigning(userId, 'user_signing', user, { [master.publicKey]: master }),
      };
    };
    const first = keys();
    expect((await client.ask('POST', path, first, token)).status).toBe(200);
    expect((await client.ask('POST', path, first, token)).status).toBe(200);
    const second = keys();
    expect(await client.ask('POST', path, second, token)).toMatchObject({
      status: 401,
      body: { flows: [{ stages: ['m.login.password'] }] },
    });
    const auth = { type: 'm.login.password', user: 'fred', password: 'correct horse' };
    expect((await client.ask('POST', path, { ...second, auth }, token)).status).toBe(200);

    const query = async (as: string) =>
      (await client.ask('POST', `${V3}/keys/query`, { device_keys: { [userId]: [] } }, as)).body;
    expect(await query(token)).toMatchObject({
      master_keys: { [userId]: second.master_key },
      self_signing_keys: { [userId]: second.self_signing_key },
      user_signing_keys: { [userId]: second.user_signing_key },
    });
    const other = await client.user('gina');
    expect((await query(other))['user_signing_keys']).toEqual({});
  });

  test('refuses keys that the master key has not signed, or of another user, and keeps none of them', async () => {
    const client = await startClientApi(store);
    const token = await client.user('hugo');
    const userId = '@hugo:here.test';
    const [master, self] = [signer(), signer()];
    const master_key = crossSigning(userId, 'master', master);
    for (const [upload, errcode] of [
      [{ master_key, self_signing_key: crossSigning(userId, 'self_signing', self) }, 'M_INVALID_SIGNATURE'],
      [
        { master_key, self_signing_key: crossSigning(userId, 'self_signing', self, { [master.publicKey]: self }) },
        'M_INVALID_SIGNATURE',
      ],
      [{ master_key: crossSigning('@other:here.test', 'master', master) }, 'M_INVALID_PARAM'],
      [{ master_key: { ...master_key, usage: ['self_signing'] } }, 'M_INVALID_PARAM'],
      [{ master_key: { ...master_key, keys: {} } }, 'M_INVALID_PARAM'],
      [{ self_signing_key: crossSigning(userId, 'self_signing', self) }, 'M_MISSING_PARAM'],
    ] as const) {
      const answer = await client.ask('POST', `${V3}/keys/device_signing/upload`, upload, token);
      expect(answer).toMatchObject({ status: 400, body: { errcode } });
    }
    expect(await store.query(`SELECT FROM cross_signing_keys WHERE user_id = $1`, [userId])).toEqual([]);
  });

  test('shows signatures of the owner to everybody, and those of somebody else to him alone; a wrong one is refused', async () => {
    const client = await startClientApi(store);
    const [ida, jack] = [await client.user('ida', { deviceId: 'I1' }), await client.user('jack', { deviceId: 'J1' })];
    const [idaId, jackId] = ['@ida:here.test', '@jack:here.test'];
    const [device, master, self] = [signer(), signer(), signer()];
    const [jackMaster, jackUser] = [signer(), signer()];
    const keys = deviceKeys(idaId, 'I1', device);
    await client.ask('POST', `${V3}/keys/upload`, { device_keys: keys }, ida);
    const master_key = crossSigning(idaId, 'master', master);
    const upload = (token: string, body: JsonObject) =>
      client.ask('POST', `${V3}/keys/device_signing/upload`, body, token);
    await upload(ida, {
      master_key,
      self_signing_key: crossSigning(idaId, 'self_signing', self, { [master.publicKey]: master }),
    });
    await upload(jack, {
      master_key: crossSigning(jackId, 'master', jackMaster),
      user_signing_key: crossSigning(jackId, 'user_signing', jackUser, { [jackMaster.publicKey]: jackMaster }),
    });
    const { signatures: own, ...bare } = keys;
    expect(own).toBeDefined();
    const sign = (token: string, body: JsonObject) => client.ask('POST', `${V3}/keys/signatures/upload`, body, token);
    const bySelf = signed(bare, idaId, { [self.publicKey]: self });
    expect((await sign(ida, { [idaId]: { I1: bySelf } })).body).toEqual({ failures: {} });
    const byJack = signed(master_key, jackId, { [jackUser.publicKey]: jackUser });
    expect((await sign(jack, { [idaId]: { [master.publicKey]: byJack } })).body).toEqual({ failures: {} });
    const wrong = { ...master_key, signatures: { [jackId]: { [`ed25519:${jackUser.publicKey}`]: 'AAAA' } } };
    expect((await sign(jack, { [idaId]: { [master.publicKey]: wrong, NONE: bySelf } })).body).toMatchObject({
      failures: { [idaId]: { [master.publicKey]: { errcode: 'M_INVALID_SIGNATURE' }, NONE: {} } },
    });

    const seen = async (token: string) => {
      const { body } = await client.ask('POST', `${V3}/keys/query`, { device_keys: { [idaId]: [] } }, token);
      const of = body as Record<string, Record<string, Record<string, JsonObject>>>;
      const device = of['device_keys']![idaId]!['I1']!['signatures'] as Record<string, JsonObject>;
      const master = of['master_keys']![idaId]!['signatures'] as unknown as Record<string, JsonObject> | undefined;
      return { onDevice: Object.keys(device[idaId]!).sort(), onMaster: Object.keys(master ?? {}) };
    };
    const onDevice = ['ed25519:I1', `ed25519:${self.publicKey}`].sort();
    expect(await seen(ida)).toEqual({ onDevice, onMaster: [] });
    expect(await seen(jack)).toEqual({ onDevice, onMaster: [jackId] });
  });
});

test('of signatures on one key those that verify are kept, and what does not is reported', async () => {
  const client = await startClientApi(store);
  const token = await client.user('nora', { deviceId: 'N1' });
  const userId = '@nora:here.test';
  const [device, master, self] = [signer(), signer(), signer()];
  await client.ask('POST', `${V3}/keys/upload`, { device_keys: deviceKeys(userId, 'N1', device) }, token);
  const master_key = crossSigning(userId, 'master', master);
  const self_signing_key = crossSigning(userId, 'self_signing', self, { [master.publicKey]: master });
  await client.ask('POST', `${V3}/keys/device_signing/upload`, { master_key, self_signing_key }, token);
  const good = signed(master_key, userId, { N1: device, [master.publicKey]: master });
  const given = (good['signatures'] as Record<string, JsonObject>)[userId];
  const stale = { [`ed25519:${self.publicKey}`]: 'AAAA', ...given };
  const { body } = await client.ask(
    'POST',
    `${V3}/keys/signatures/upload`,
    { [userId]: { [master.publicKey]: { ...master_key, signatures: { [userId]: stale } } } },
    token,
  );
  expect(body).toMatchObject({ failures: { [userId]: { [master.publicKey]: { errcode: 'M_INVALID_SIGNATURE' } } } });
  const query = await client.ask('POST', `${V3}/keys/query`, { device_keys: { [userId]: [] } }, token);
  expect(query.body).toMatchObject({ master_keys: { [userId]: { signatures: { [userId]: given } } } });
});

test('names that a client chooses reach into no prototype', async () => {
  const client = await startClientApi(store);
  const token = await client.user('pia', { deviceId: '__proto__' });
  const body = '{"__proto__":{"polluted":{}},"@pia:here.test":{"__proto__":{}}}';
  const refused = await client.ask('POST', `${V3}/keys/signatures/upload`, body, token, {
    'content-type': 'application/json',
  });
  expect(refused.status).toBe(200);
  const upload = { one_time_keys: { 'polluted:1': { key: 'k', signatures: {} } } };
  await client.ask('POST', `${V3}/keys/upload`, upload, token);
  const claim = '{"one_time_keys":{"@pia:here.test":{"__proto__":"polluted"}}}';
  await client.ask('POST', `${V3}/keys/claim`, claim, token, { 'content-type': 'application/json' });
  expect(Object.keys(Object.getOwnPropertyDescriptors(Object.prototype)).filter((key) => /polluted/.test(key))).toEqual(
    [],
  );
});

test('a cross-signing key that is named like a device of its user is refused', async () => {
  const client = await startClientApi(store);
  const master = signer();
  const token = await client.user('olga', { deviceId: master.publicKey });
  const master_key = crossSigning('@olga:here.test', 'master', master);
  const answer = await client.ask('POST', `${V3}/keys/device_signing/upload`, { master_key }, token);
  expect(answer).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN', error: 'Key ID in use' } });
});

describe('of other servers', () => {
  const devicesOf = (federation: Partial<FederationClient>) =>
    createDevices({
      ...roomsContextOf(store, { now: () => 1 }),
      federation: federation as FederationClient,
      onSaid: () => undefined,
    });
  const patience = { timeoutMs: 10_000, signal: new AbortController().signal };

  test('thousands of devices are claimed from in parts, whatever their names', async () => {
    const asked: number[] = [];
    const devices = devicesOf({
      claimKeys: (_, claims) => {
        const [[userId, named] = ['', {}]] = Object.entries(claims as Record<string, Record<string, string>>);
        asked.push(Object.keys(named).length);
        const given = Object.keys(named).map((deviceId) => [deviceId, { 'signed_curve25519:1': {} }]);
        return Promise.resolve({ [userId]: Object.fromEntries(given) as JsonObject });
      },
    });
    const names = ['__proto__', ...Array.from({ length: 9_999 }, (_, i) => `D${i}`)];
    const userId = '@many:parts.test' as UserId;
    const claims = names.map((deviceId) => ({ userId, deviceId, algorithm: 'signed_curve25519' }));
    const { keys } = await devices.claim(claims, patience);
    expect(asked).toEqual(Array.from({ length: 20 }, () => 500));
    expect(Object.keys(keys[userId]!).sort()).toEqual(names.sort());
  });

  test('a master key comes with the signature that the asking user has made on it, and with nobody else’s', async () => {
    const client = await startClientApi(store);
    const token = await client.user('petra');
    const [petraId, farId] = ['@petra:here.test' as UserId, '@far:there.test' as UserId];
    const [master, user, far] = [signer(), signer(), signer()];
    const keys = {
      master_key: crossSigning(petraId, 'master', master),
      user_signing_key: crossSigning(petraId, 'user_signing', user, { [master.publicKey]: master }),
    };
    await client.ask('POST', `${V3}/keys/device_signing/upload`, keys, token);
    const farMaster = crossSigning(farId, 'master', far);
    const vouched = signed(farMaster, petraId, { [user.publicKey]: user });
    const upload = { [farId]: { [far.publicKey]: vouched } };
    const signatures = await client.ask('POST', `${V3}/keys/signatures/upload`, upload, token);
    expect(signatures.body).toEqual({ failures: {} });
    const devices = devicesOf({
      queryKeys: () =>
        Promise.resolve(
          new Map([[farId, { streamId: null, devices: {}, masterKey: farMaster, selfSigningKey: undefined }]]),
        ),
    });
    const seen = async (viewer: UserId) =>
      (await devices.query(viewer, [farId], patience)).users.get(farId)?.crossSigning.get('master');
    expect(await seen(petraId)).toEqual(vouched);
    expect(await seen('@other:here.test' as UserId)).toEqual(farMaster);
  });

  test('of one user alone that are more than is taken are told as a failure of his server, and the others are there', async () => {
    const none = { streamId: null, devices: {}, masterKey: undefined, selfSigningKey: undefined };
    const devices = devicesOf({
      queryKeys: (_destination, userIds) =>
        Promise.resolve(new Map(userIds.filter((id) => !id.startsWith('@many')).map((id) => [id, none]))),
    });
    const asked = ['@many:far.test', '@few:far.test', '@few:near.test'] as UserId[];
    const { users, failures } = await devices.query('@me:here.test' as UserId, asked, patience);
    expect([...users.keys()].sort()).toEqual(['@few:far.test', '@few:near.test']);
    expect([...failures]).toEqual([['far.test', 'too-large']]);
  });

  test('a server is asked one question at a time, and nothing more when it says nothing', async () => {
    const [asked, under] = [new Map<string, number>(), new Map<string, number>()];
    let most = 0;
    const devices = devicesOf({
      claimKeys: async (destination, _claims, { signal }) => {
        asked.set(destination, (asked.get(destination) ?? 0) + 1);
        under.set(destination, (under.get(destination) ?? 0) + 1);
        most = Math.max(most, ...under.values());
        await new Promise<void>((resolve, reject) => {
          if (destination === 'answering.test') setTimeout(resolve, 1);
          else signal.addEventListener('abort', () => reject(signal.reason as Error));
        });
        under.set(destination, (under.get(destination) ?? 0) - 1);
        return {};
      },
    });
    const claims = ['@a:answering.test', '@a:mute.test'].flatMap((userId) =>
      Array.from({ length: 2_000 }, (_, i) => ({
        ...{ userId: userId as UserId, deviceId: `D${i}`, algorithm: 'signed_curve25519' },
      })),
    );
    const { failures } = await devices.claim(claims, { ...patience, timeoutMs: 2_000 });
    expect([...asked].sort()).toEqual([
      ['answering.test', 4],
      ['mute.test', 1],
    ]);
    expect([most, [...failures]]).toEqual([1, [['mute.test', 'timeout']]]);
  });

  test('sixteen that say nothing keep no other from being asked', async () => {
    const devices = devicesOf({
      queryKeys: (destination, userIds, { signal }) =>
        destination.startsWith('silent')
          ? new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)))
          : Promise.resolve(
              new Map(
                userIds.map((id) => [
                  id,
                  { streamId: null, devices: {}, masterKey: undefined, selfSigningKey: undefined },
                ]),
              ),
            ),
    });
    const silent = Array.from({ length: 16 }, (_, i) => `@a:silent${i}.test` as UserId);
    const { users, failures } = await devices.query('@me:here.test' as UserId, [...silent, '@b:well.test' as UserId], {
      ...patience,
      timeoutMs: 200,
    });
    expect([...users.keys()]).toEqual(['@b:well.test']);
    expect(failures.size).toBe(16);
  });
});

test.each([
  ['POST', '/keys/query', {}],
  ['POST', '/keys/query', { device_keys: { 'no user': [] } }],
  ['POST', '/keys/query', { device_keys: { '@nul\u0000:here.test': [] } }],
  ['POST', '/keys/query', { device_keys: [] }],
  ['POST', '/keys/claim', { one_time_keys: { '@a:here.test': [] } }],
  ['POST', '/keys/claim', { one_time_keys: { '@a:here.test': { D: 1 } } }],
  ['POST', '/keys/signatures/upload', []],
  ['GET', '/keys/changes', undefined],
  ['GET', '/keys/changes?from=s1_99999999', undefined],
  ['GET', '/keys/changes?from=nothing', undefined],
  ['PUT', '/sendToDevice/m.x/t', {}],
  ['PUT', '/sendToDevice/m.x/t', { messages: { '@a:here.test': [] } }],
  ['PUT', '/sendToDevice/m.x/t', { messages: { '@a:here.test': { D: 1 } } }],
  ['PUT', '/sendToDevice/m.x/t', { messages: { nobody: { D: {} } } }],
  ['PUT', '/sendToDevice/m.x/t', { messages: { '@a:here.test': { D: { x: 'x'.repeat(70_000) } } } }],
])('%s %s with a body of another form is refused', async (method, path, body) => {
  const client = await startClientApi(store);
  const token = await client.login('kim');
  const answer = await client.ask(method, `${V3}${path}`, body, token);
  expect(answer).toMatchObject({ status: 400, body: { errcode: expect.stringMatching(/^M_/) } });
});

test('whoever asks for a backup of keys is told that there is none', async () => {
  const client = await startClientApi(store);
  const token = await client.login('lea');
  const answer = await client.ask('GET', `${V3}/room_keys/version`, undefined, token);
  expect(answer).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
});
