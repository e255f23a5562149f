import { readFile } from 'node:fs/promises';
import { get } from 'node:https';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type SynapseRoom, createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';

const missing = await whySynapseIsMissing();

describe.skipIf(missing !== undefined)('a local Synapse', () => {
  let synapse: TestSynapse;
  let room: SynapseRoom;
  beforeAll(async () => {
    synapse = await startTestSynapse();
    room = await createPopulatedRoom({
      synapse,
      members: 5,
      roomVersion: '11',
      aliasLocalpart: 'small',
      progress: () => undefined,
    });
  });
  afterAll(() => synapse.stop());

  async function federation(path: string): Promise<Record<string, unknown>> {
    const ca = await readFile(synapse.certificates.authorityFile, 'utf8');
    return new Promise((resolve, reject) => {
      get({ host: 'localhost', port: synapse.proxy.port, path, ca, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (more: string) => (text += more));
        response.on('end', () => resolve(JSON.parse(text) as Record<string, unknown>));
      }).on('error', reject);
    });
  }

  test('its federation answers through the proxy, under the name that the proxy has', async () => {
    const keys = await federation('/_matrix/key/v2/server');
    expect(keys['server_name']).toBe(`localhost:${synapse.proxy.port}`);
    expect(synapse.proxy.counts().get('GET /_matrix/key/v2/server')?.requests).toBe(1);
  });

  test('the room has the members asked for, one who left and one who is banned', async () => {
    const members = await room.owner.members(room.roomId);
    const memberships = [...members.values()].map(({ membership }) => membership).sort();
    expect(memberships).toEqual(['ban', 'join', 'join', 'join', 'join', 'join', 'leave']);
    expect(room.joined.map(({ userId }) => members.get(userId)?.membership)).toEqual(Array(5).fill('join'));
    expect([...members.values()].every(({ eventId }) => eventId.startsWith('$'))).toBe(true);
  });

  test('the room has the version asked for, an alias, and a moderator', async () => {
    const state = await room.owner.state(room.roomId);
    const content = (type: string): unknown => state.find((event) => event.type === type)?.content;
    expect(content('m.room.create')).toMatchObject({ room_version: '11' });
    expect(content('m.room.canonical_alias')).toEqual({ alias: room.alias });
    expect(content('m.room.power_levels')).toMatchObject({ users: { [room.joined[1]!.userId]: 50 } });
  });

  test('its users can send and kick', async () => {
    expect(await room.owner.sendMessage(room.roomId, 'hello')).toMatch(/^\$/);
    const last = room.joined[4]!;
    await room.owner.kick(room.roomId, last.userId);
    expect((await room.owner.members(room.roomId)).get(last.userId)?.membership).toBe('leave');
    await expect(last.sendMessage(room.roomId, 'still here?')).rejects.toMatchObject({
      status: 403,
      errcode: 'M_FORBIDDEN',
    });
  });
});
