import { connect } from 'node:net';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type RunningServer, TOKEN, ask, post, startServer } from './rooms-of-test.ts';

let server: RunningServer;
beforeEach(async () => {
  server = await startServer();
});
afterEach(() => server.close());

const rooms = (init?: RequestInit, query = ''): Promise<Response> =>
  fetch(`${server.url}/_rejoinder/v1/rooms${query}`, init);

describe('access to the operator API', () => {
  test('health is open and says nothing about rooms', async () => {
    const response = await fetch(`${server.url}/health`);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ status: 'ok' });
  });

  test.each([
    ['no token', undefined, 'M_MISSING_TOKEN'],
    ['another scheme', 'Basic cm9vdDpyb290', 'M_MISSING_TOKEN'],
    ['a wrong token', 'Bearer wrong', 'M_UNKNOWN_TOKEN'],
    ['the beginning of the token', `Bearer ${TOKEN.slice(0, -1)}`, 'M_UNKNOWN_TOKEN'],
    ['the token and more', `Bearer ${TOKEN} ${TOKEN}`, 'M_MISSING_TOKEN'],
  ])('%s is refused', async (_what, authorization, errcode) => {
    const response = await rooms(authorization === undefined ? {} : { headers: { authorization } });
    expect(response.status).toBe(401);
    expect(await response.json()).toMatchObject({ errcode });
    expect(response.headers.get('www-authenticate')).toBe('Bearer');
  });

  test('the scheme may be written in any case', async () => {
    expect((await rooms({ headers: { authorization: `bearer ${TOKEN}` } })).status).toBe(200);
  });

  test('a token in the URL is refused, right as it may be, and does not reach the log', async () => {
    for (const name of ['access_token', 'token']) {
      const response = await rooms({ headers: { authorization: `Bearer ${TOKEN}` } }, `?${name}=${TOKEN}`);
      expect(response.status).toBe(400);
      expect(await response.text()).not.toContain(TOKEN);
    }
    expect(server.log.length).toBeGreaterThan(0);
    expect(server.log.join('')).not.toContain(TOKEN);
  });

  test('a token in a header does not reach the log', async () => {
    await rooms({ headers: { authorization: `Bearer ${TOKEN}` } });
    expect(server.log.join('')).not.toContain(TOKEN);
  });

  test('unknown endpoints tell nothing, with a token or without', async () => {
    const response = await fetch(`${server.url}/_rejoinder/v2/rooms`);
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ errcode: 'M_UNRECOGNIZED' });
    expect((await fetch(`${server.url}/_rejoinder/v1/rooms`, { method: 'DELETE' })).status).toBe(405);
  });

  test('answers are JSON that no browser runs or keeps', async () => {
    const { headers } = await ask(server, '/rooms');
    expect(headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('content-security-policy')).toContain("default-src 'none'");
  });
});

describe('a bad request is refused with what was expected:', () => {
  test.each([
    ['no body', '', 'M_NOT_JSON', /JSON/],
    ['no JSON', '{"room":', 'M_NOT_JSON', /not JSON/],
    ['a prototype in the body', '{"__proto__":{"x":1},"room":"#a:b","user_id":"a"}', 'M_NOT_JSON', /not JSON/],
    ['a list', '[]', 'M_INVALID_PARAM', /body: expected a JSON object/],
    ['no room', '{"user_id":"alice"}', 'M_INVALID_PARAM', /room: expected a room id/],
    ['a room without a server', '{"room":"#lobby","user_id":"alice"}', 'M_INVALID_PARAM', /room: expected a room id/],
    ['no user', '{"room":"#a:b"}', 'M_INVALID_PARAM', /user_id: expected a user id/],
    ['a user of another server', '{"room":"#a:b","user_id":"@eve:evil"}', 'M_INVALID_PARAM', /expected a user of ours/],
    ['a user id that is a number', '{"room":"#a:b","user_id":7}', 'M_INVALID_PARAM', /user_id: expected/],
    [
      'a via that is no server',
      '{"room":"#a:b","user_id":"a","via":["x y"]}',
      'M_INVALID_PARAM',
      /via.0: expected a server name/,
    ],
    ['a key nobody knows', '{"room":"#a:b","user_id":"a","force":true}', 'M_INVALID_PARAM', /force: not known here/],
  ])('%s', async (_what, body, errcode, message) => {
    const answer = await post(server, '/rooms/join', body);
    expect(answer).toMatchObject({ status: 400, body: { errcode } });
    expect(answer.body['error']).toMatch(message);
  });

  test('more servers than a join asks', async () => {
    const via = Array.from({ length: 21 }, (_, at) => `hs${at}`);
    const { body } = await post(server, '/rooms/join', { room: '#a:b', user_id: 'a', via });
    expect(body['error']).toBe('via: expected at most 20 server names');
  });

  test('a body of another type', async () => {
    const answer = await ask(server, '/rooms/join', {
      method: 'POST',
      body: 'x',
      headers: { 'content-type': 'text/plain' },
    });
    expect(answer).toMatchObject({ status: 415, body: { errcode: 'M_NOT_JSON' } });
  });

  test('a body without end', async () => {
    const answer = await post(server, '/rooms/join', { room: '#a:b', user_id: 'a'.repeat(70_000) });
    expect(answer).toMatchObject({ status: 413, body: { errcode: 'M_TOO_LARGE' } });
  });

  test('a room that is neither id nor alias', async () => {
    const answer = await ask(server, '/rooms/lobby');
    expect(answer).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
  });

  test.each(['wait_ms=-1', 'wait_ms=1.5', 'wait_ms=soon', 'membership=friend', 'limit=5'])('?%s', async (query) => {
    const answer = await ask(server, `/rooms/${encodeURIComponent('!whole:hs1')}/members?${query}`);
    expect(answer).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
  });

  test('a path that is badly encoded', async () => {
    const port = Number(new URL(server.url).port);
    const socket = connect(port, '127.0.0.1');
    socket.write(
      `GET /_rejoinder/v1/rooms/%ZZ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${TOKEN}\r\nconnection: close\r\n\r\n`,
    );
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await once(socket, 'close');
    expect(text).toMatch(/^HTTP\/1.1 400/);
    expect(text).toContain('M_INVALID_PARAM');
  });
});
