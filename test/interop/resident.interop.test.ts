/** Rooms that we host, and a real Synapse whose users come in: through a proxy, so that it can be seen and slowed from outside. */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { freePort } from '../../src/launch/ports.ts';
import { SynapseUser } from '../../src/launch/synapse-user.ts';
import { type FaultProxy, startFaultProxy } from '../../src/simulator/tls-proxy.ts';
import { type RejoinderProcesses, type ServeChild, startProcesses } from '../support/processes.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';

const missing = await whySynapseIsMissing();
const soon = { timeout: 40_000, interval: 100 };
const FEDERATION = '/_matrix/federation';
/** Longer than a server takes to come back. */
const COMES_BACK_MS = 6_000;

describe.skipIf(missing !== undefined)('a room that we host', () => {
  let synapse: TestSynapse;
  let rejoinder: RejoinderProcesses;
  let proxy: FaultProxy;
  let serve: ServeChild;
  let theirs: SynapseUser;
  let tokens = 0;

  beforeAll(async () => {
    synapse = await startTestSynapse();
    const { certificateFile, keyFile, authorityFile } = synapse.certificates;
    const listensOn = await freePort();
    proxy = await startFaultProxy({
      certificatePem: await readFile(certificateFile, 'utf8'),
      keyPem: await readFile(keyFile, 'utf8'),
      upstream: { port: listensOn, authorityPem: await readFile(authorityFile, 'utf8') },
    });
    rejoinder = await startProcesses(synapse, { proxied: { listensOn, reachedAt: proxy.port } });
    [serve, theirs] = await Promise.all([rejoinder.serve({ endedBy: 'KILL' }), synapse.registerUser('theirs')]);
  });
  afterAll(async () => {
    await rejoinder.stop();
    await proxy.stop();
    await synapse.stop();
  });

  const register = async (): Promise<SynapseUser> => {
    tokens += 1;
    const body = { username: `ours${tokens}`, password: 'correct horse', auth: { type: 'm.login.dummy' } };
    const made = await new SynapseUser(serve.clientUrl, '', '').call('POST', '/_matrix/client/v3/register', body);
    return new SynapseUser(serve.clientUrl, String(made['user_id']), String(made['access_token']));
  };
  const join = (user: SynapseUser, roomId: string): Promise<unknown> => {
    const via = encodeURIComponent(rejoinder.serverName);
    return user.call('POST', `/_matrix/client/v3/join/${encodeURIComponent(roomId)}?via=${via}&server_name=${via}`, {});
  };
  const hasHeard = async (user: SynapseUser, roomId: string, eventId: string): Promise<void> => {
    const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/event/${encodeURIComponent(eventId)}`;
    await vi.waitFor(async () => expect(await user.call('GET', path)).toMatchObject({ event_id: eventId }), soon);
  };
  /** Each hears what the other says. */
  const talk = async (ours: SynapseUser, roomId: string): Promise<void> => {
    await hasHeard(theirs, roomId, await ours.sendMessage(roomId, 'from here'));
    await hasHeard(ours, roomId, await theirs.sendMessage(roomId, 'from there'));
  };
  const membership = async (user: SynapseUser, roomId: string, of: string): Promise<string | undefined> =>
    (await user.members(roomId)).get(of)?.membership;
  const stateIds = async (user: SynapseUser, roomId: string): Promise<string[]> =>
    (await user.state(roomId)).map(({ event_id: eventId }) => eventId).sort();
  const agree = (ours: SynapseUser, roomId: string): Promise<void> =>
    vi.waitFor(async () => expect(await stateIds(theirs, roomId)).toEqual(await stateIds(ours, roomId)), soon);

  test('is joined partially, and made whole there while our server is killed and comes back', async () => {
    const [owner, ...others] = [await register(), await register(), await register()];
    const roomId = await owner.createRoom({ preset: 'public_chat', name: 'Hosted', room_version: '11' });
    for (const user of others) await user.join(roomId);
    const slow = proxy.inject({
      match: new RegExp(`^GET ${FEDERATION}/v1/state(_ids)?/`),
      fault: { kind: 'latency', ms: COMES_BACK_MS },
    });
    await join(theirs, roomId);
    await vi.waitFor(() => expect(slow.hits()).toBeGreaterThan(0), soon);
    expect(proxy.counts().get(`PUT ${FEDERATION}/v2/send_join`)).toMatchObject({ requests: 1 });
    await talk(owner, roomId);

    await serve.stop();
    slow.remove();
    serve = await rejoinder.serve();
    const back = new SynapseUser(serve.clientUrl, owner.userId, owner.accessToken);
    await agree(back, roomId);
    expect((await theirs.members(roomId)).size).toBe(4);
    await talk(back, roomId);
  }, 120_000);

  test('lets in who may come in, and others out: by knocking, by another room, and not when banned', async () => {
    const ours = await register();
    const open = await ours.createRoom({ preset: 'public_chat', room_version: '11' });
    const allow = [{ type: 'm.room_membership', room_id: open }];
    const rules = { type: 'm.room.join_rules', state_key: '', content: { join_rule: 'knock_restricted', allow } };
    const inner = await ours.createRoom({ name: 'Inner', room_version: '11', initial_state: [rules] });
    await expect(join(theirs, inner)).rejects.toThrow();
    await join(theirs, open);
    await join(theirs, inner);
    await talk(ours, inner);
    await agree(ours, inner);

    await theirs.leave(inner);
    await vi.waitFor(async () => expect(await membership(ours, inner, theirs.userId)).toBe('leave'), soon);
    await ours.kick(open, theirs.userId);
    await vi.waitFor(async () => expect(await membership(theirs, open, theirs.userId)).toBe('leave'), soon);
    const via = encodeURIComponent(rejoinder.serverName);
    await theirs.call(
      'POST',
      `/_matrix/client/v3/knock/${encodeURIComponent(inner)}?via=${via}&server_name=${via}`,
      {},
    );
    expect(await membership(ours, inner, theirs.userId)).toBe('knock');
    // Who knocks is invited.
    await ours.call('POST', `/_matrix/client/v3/rooms/${encodeURIComponent(inner)}/invite`, { user_id: theirs.userId });
    await join(theirs, inner);
    await talk(ours, inner);
    await ours.ban(inner, theirs.userId);
    // Until the ban has come there he is in, and a join changes nothing.
    await vi.waitFor(async () => expect(join(theirs, inner)).rejects.toThrow(), soon);
    expect(await membership(ours, inner, theirs.userId)).toBe('ban');
  }, 60_000);

  let looked = 0;
  /** The rooms in a section of the user's initial sync. */
  const rooms = async (user: SynapseUser, section: 'invite' | 'knock'): Promise<Record<string, unknown>> => {
    // Another question each time: Synapse gives an answer to an initial sync again for a while.
    const timeline = { limit: (looked += 1) };
    const filter = encodeURIComponent(JSON.stringify({ room: { state: { lazy_load_members: true }, timeline } }));
    const answer = await user.call('GET', `/_matrix/client/v3/sync?filter=${filter}`);
    return ((answer['rooms'] ?? {}) as Record<string, Record<string, unknown>>)[section] ?? {};
  };

  // Since version 12 whole events are told of a room to who is invited and who knocks.
  test.each(['11', '12'])(
    'and one that we do not, of version %s: invites go both ways, are declined and withdrawn, and knocks are heard',
    async (version) => {
      const ours = await register();
      const invite = (by: SynapseUser, roomId: string, userId: string) =>
        by.call('POST', `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/invite`, { user_id: userId });

      // Theirs to ours.
      const room = await theirs.createRoom({ preset: 'private_chat', name: 'Theirs', room_version: version });
      await invite(theirs, room, ours.userId);
      await vi.waitFor(async () => expect(Object.keys(await rooms(ours, 'invite'))).toEqual([room]), soon);
      expect(JSON.stringify(await rooms(ours, 'invite'))).toContain('Theirs');
      await ours.leave(room);
      expect(await rooms(ours, 'invite')).toEqual({});
      await vi.waitFor(async () => expect(await membership(theirs, room, ours.userId)).toBe('leave'), soon);
      await invite(theirs, room, ours.userId);
      await vi.waitFor(async () => expect(Object.keys(await rooms(ours, 'invite'))).toEqual([room]), soon);
      await theirs.kick(room, ours.userId);
      await vi.waitFor(async () => expect(await rooms(ours, 'invite')).toEqual({}), soon);
      await invite(theirs, room, ours.userId);
      await ours.join(room);
      await talk(ours, room);

      // Ours to theirs.
      const hosted = await ours.createRoom({
        preset: 'private_chat',
        name: 'Ours',
        room_version: version,
        invite: [theirs.userId],
      });
      await vi.waitFor(async () => expect(Object.keys(await rooms(theirs, 'invite'))).toEqual([hosted]), soon);
      await theirs.leave(hosted);
      await vi.waitFor(async () => expect(await membership(ours, hosted, theirs.userId)).toBe('leave'), soon);
      await invite(ours, hosted, theirs.userId);
      await theirs.join(hosted);
      await talk(ours, hosted);
      await agree(ours, hosted);

      // We knock.
      const rules = { type: 'm.room.join_rules', state_key: '', content: { join_rule: 'knock' } };
      const closed = await theirs.createRoom({ name: 'Closed', room_version: version, initial_state: [rules] });
      const via = encodeURIComponent(synapse.serverName);
      const knocker = await register();
      await knocker.call('POST', `/_matrix/client/v3/knock/${encodeURIComponent(closed)}?via=${via}`, {
        reason: 'please',
      });
      expect(JSON.stringify((await rooms(knocker, 'knock'))[closed])).toContain('Closed');
      expect(await membership(theirs, closed, knocker.userId)).toBe('knock');
      await invite(theirs, closed, knocker.userId);
      await vi.waitFor(async () => expect(Object.keys(await rooms(knocker, 'invite'))).toEqual([closed]), soon);
      await knocker.join(closed);
      await talk(knocker, closed);
    },
    90_000,
  );
});
