import { expect, test } from 'vitest';
import { type ClientActs, type IdentifierInvite } from '../../src/rooms/client-contract.ts';
import { openTestStore } from '../support/postgres.ts';
import { SERVER_NAME, startClientApi } from './client.ts';

const { store } = await openTestStore();
const V3 = '/_matrix/client/v3';
const ROOM = `!room:${SERVER_NAME}`;

test('an invite by an address goes to the identity server that the client names, and one in another form to none', async () => {
  const asked: IdentifierInvite[] = [];
  const acts = { inviteByIdentifier: (invite: IdentifierInvite) => Promise.resolve(void asked.push(invite)) };
  const api = await startClientApi(store, { acts: acts as unknown as ClientActs });
  const token = await api.user('alice');
  const whole = { medium: 'email', address: 'Bob@X.test', id_server: 'id.test:8448', id_access_token: 'secret' };
  const invite = (body: object) => api.ask('POST', `${V3}/rooms/${encodeURIComponent(ROOM)}/invite`, body, token);
  expect((await invite({ ...whole, reason: 'why' })).status).toBe(200);
  expect(asked).toMatchObject([
    {
      ...{ roomId: ROOM, sender: `@alice:${SERVER_NAME}`, medium: 'email', address: 'bob@x.test', reason: 'why' },
      ...{ idServer: 'id.test:8448', idAccessToken: 'secret' },
    },
  ]);
  for (const [member, values] of Object.entries({
    medium: [7, 'fax'],
    address: [undefined, '', 'a b', 'a\u0000b', 'x'.repeat(501)],
    id_server: [undefined, 'id.test/path', 'me@id.test', ''],
    id_access_token: [undefined, '', 'a b', 'x'.repeat(1001)],
  })) {
    for (const value of values) {
      const { status, body } = await invite({ ...whole, [member]: value });
      expect([member, value, status, body['errcode']]).toEqual([
        ...[member, value, 400],
        value === undefined ? 'M_MISSING_PARAM' : expect.stringMatching(/^M_(BAD_JSON|INVALID_PARAM)$/),
      ]);
    }
  }
  expect(asked).toHaveLength(1);
});
