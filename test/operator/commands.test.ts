/** What operators command through the API. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RoomError } from '../../src/rooms/error.ts';
import { type RunningServer, WHOLE, ask, portsOfTest, post, startServer } from './rooms-of-test.ts';

let server: RunningServer;
beforeEach(async () => {
  server = await startServer();
});
afterEach(() => server.close());

const path = (command: string, room: string = WHOLE): string => `/rooms/${encodeURIComponent(room)}/${command}`;

describe('a command', () => {
  test('answers what was decided, in words', async () => {
    const { status, body } = await post(server, path('pin-resident'), { resident: 'hs1', by: 'me' });
    expect({ status, changed: body['changed'] }).toEqual({ status: 200, changed: true });
    expect(body['explanation']).toMatch(/^hs1 is pinned: it is asked before all others \(by me: /);
  });

  test('that changes nothing is no failure', async () => {
    const { status, body } = await post(server, path('unpin-resident'), { resident: 'hs1' });
    expect(status).toBe(200);
    expect(body).toEqual({ room_id: WHOLE, changed: false, explanation: 'hs1 is not pinned' });
  });

  test('that cannot be is refused with what is in the way', async () => {
    await server.close();
    const ports = portsOfTest({
      commandRoom: () => Promise.reject(new RoomError('inapplicable', 'elsewhere is not known to be in the room')),
    });
    server = await startServer(ports);
    const { status, body } = await post(server, path('pin-resident'), { resident: 'elsewhere' });
    expect(status).toBe(409);
    expect(body).toEqual({ errcode: 'REJOINDER_INAPPLICABLE', error: 'elsewhere is not known to be in the room' });
  });

  test.each([
    ['no body', 'ban-resident', undefined, /resident: expected a server name/],
    ['a list', 'ban-resident', [], /body: expected a JSON object/],
    ['no server', 'ban-resident', {}, /resident: expected a server name/],
    ['what is no server', 'ban-resident', { resident: 'a b' }, /resident: expected a server name/],
    ['something unknown', 'ban-resident', { resident: 'hs1', force: true }, /force: not known here/],
    ['a reason of two lines', 'ban-resident', { resident: 'hs1', reason: 'a\nb' }, /reason: expected why, in one line/],
    ['nobody who decides it', 'ban-resident', { resident: 'hs1', by: ' ' }, /by: expected who decides it/],
    ['no policy', 'set-policy', {}, /policy: expected an object of policies/],
    ['an empty policy', 'set-policy', { policy: {} }, /policy: expected one of given_up/],
    ['an unknown policy', 'set-policy', { policy: { purge: true } }, /purge: not known here/],
    [
      'a duration without a unit',
      'set-policy',
      { policy: { give_up_after: '5' } },
      /give_up_after: expected a duration/,
    ],
    ['a policy of another type', 'set-policy', { policy: { given_up: 3 } }, /given_up: expected park, leave, or null/],
  ])('with %s is refused by name, and nothing is done', async (_what, command, body, message) => {
    const refused =
      body === undefined
        ? await ask(server, path(command), { method: 'POST' })
        : await post(server, path(command), body);
    expect(refused.status).toBe(400);
    expect(refused.body['error']).toMatch(message);
  });

  test('retries all rooms of a server, a page of them', async () => {
    const { status, body } = await post(server, '/rooms/retry', { resident: 'hs1' });
    expect({ status, body }).toEqual({ status: 200, body: { retried: ['!parked:hs1'], next: '!parked:hs1' } });
    expect((await post(server, '/rooms/retry', { resident: 'hs1', from: '!parked:hs1' })).body['next']).toBeNull();
    for (const wrong of [{}, { resident: 'a b' }, { resident: 'hs1', from: 7 }, { resident: 'hs1', all: true }]) {
      expect((await post(server, '/rooms/retry', wrong)).status).toBe(400);
    }
  });

  test('of an unknown name is none', async () => {
    expect((await post(server, path('explode'), {})).status).toBe(404);
    expect((await ask(server, path('ban-resident'))).status).toBe(405);
  });
});
