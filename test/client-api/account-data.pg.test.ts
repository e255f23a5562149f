import { describe, expect, test } from 'vitest';
import { accountDataBetween } from '../../src/accounts/account-data.ts';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { openTestStore } from '../support/postgres.ts';
import { startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const RULES = `${V3}/pushrules/global`;
const ROOM = '!room:elsewhere.test';

const { store } = await openTestStore();

async function headPosition(): Promise<number> {
  const [row] = await store.query<{ position: number }>(`SELECT position FROM journal_head`);
  return row?.position ?? 0;
}

describe('account data', () => {
  test('is kept of a user and of his rooms apart, and the last one counts', async () => {
    const client = await startClientApi(store);
    const token = await client.user('fry');
    const own = `${V3}/user/@fry:here.test/account_data/org.example.%00`;
    const ofRoom = `${V3}/user/@fry:here.test/rooms/${ROOM}/account_data/org.example.%00`;
    expect(await client.ask('GET', own, undefined, token)).toMatchObject({
      status: 404,
      body: { errcode: 'M_NOT_FOUND' },
    });
    expect((await client.ask('PUT', own, { a: 1 }, token)).body).toEqual({});
    await client.ask('PUT', own, { a: '\u0000', b: 1.5 }, token);
    await client.ask('PUT', ofRoom, {}, token);
    expect((await client.ask('GET', own, undefined, token)).body).toEqual({ a: '\u0000', b: 1.5 });
    expect((await client.ask('GET', ofRoom, undefined, token)).body).toEqual({});
  });

  test('of a user is kept up to sixteen megabytes in all, and what is there may be said otherwise', async () => {
    const client = await startClientApi(store);
    const token = await client.user('hoarder');
    const put = async (type: string, length: number): Promise<unknown> => {
      const path = `${V3}/user/@hoarder:here.test/account_data/${type}`;
      const { status, body } = await client.ask('PUT', path, { data: 'x'.repeat(length) }, token);
      return [status, body['errcode']];
    };
    for (let i = 0; i < 16; i += 1) expect(await put(`t${i}`, 1_040_000)).toEqual([200, undefined]);
    expect(await put('one.more', 1_040_000)).toEqual([400, 'M_INVALID_PARAM']);
    expect(await put('t0', 1_040_001)).toEqual([200, undefined]);
    expect(await put('small', 10)).toEqual([200, undefined]);
  });

  test('has a position of the one counter, by which it is told, and push rules are told with it', async () => {
    const client = await startClientApi(store);
    const token = await client.user('leela');
    const userId = '@leela:here.test' as UserId;
    const put = (path: string, body: unknown) => client.ask('PUT', `${V3}/user/${userId}${path}`, body, token);
    const first = await headPosition();
    await put('/account_data/a', { n: 1 });
    await put(`/rooms/${ROOM}/account_data/b`, { n: 2 });
    await put('/account_data/a', { n: 3 });
    expect(await headPosition()).toBe(first + 3);
    expect(await accountDataBetween(store, userId, { since: first, upTo: first + 3 })).toEqual([
      { roomId: ROOM, type: 'b', content: { n: 2 } },
      { roomId: null, type: 'a', content: { n: 3 } },
    ]);
    expect(await accountDataBetween(store, userId, { since: first + 2, upTo: first + 3 })).toHaveLength(1);
    const initial = await accountDataBetween(store, userId, { since: 0, upTo: first + 3 });
    expect(initial.map(({ type }) => type)).toEqual(['m.push_rules', 'b', 'a']);
    await client.ask('PUT', `${RULES}/content/x`, { actions: [], pattern: 'x' }, token);
    const [rules, ...others] = await accountDataBetween(store, userId, { since: first + 3, upTo: first + 4 });
    expect(others).toEqual([]);
    expect(rules).toEqual({
      ...{ roomId: null, type: 'm.push_rules' },
      content: (await client.ask('GET', `${V3}/pushrules/`, undefined, token)).body,
    });
  });

  test.each(['m.push_rules', 'm.fully_read'])('of the type %s is not to be written', async (type) => {
    const client = await startClientApi(store);
    const name = `u${type.replace(/\W|_/g, '')}`;
    const token = await client.user(name);
    for (const path of [`account_data/${type}`, `rooms/${ROOM}/account_data/${type}`]) {
      const answer = await client.ask('PUT', `${V3}/user/@${name}:here.test/${path}`, {}, token);
      expect(answer).toMatchObject({ status: 405, body: { errcode: 'M_BAD_JSON' } });
    }
  });

  test('of other users is forbidden, and of what is no room refused', async () => {
    const client = await startClientApi(store);
    const [token, zapp] = [await client.user('kif'), await client.user('zapp')];
    for (const method of ['GET', 'PUT']) {
      const body = method === 'PUT' ? {} : undefined;
      const ofOther = await client.ask(method, `${V3}/user/@kif:here.test/account_data/a`, body, zapp);
      expect(ofOther).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
      for (const room of ['rubbish', '!a%00:b']) {
        const path = `${V3}/user/@kif:here.test/rooms/${room}/account_data/a`;
        expect((await client.ask(method, path, body, token)).body).toMatchObject({ errcode: 'M_INVALID_PARAM' });
      }
    }
    expect(
      await store.query(`SELECT FROM account_data WHERE user_id IN ('@kif:here.test', '@zapp:here.test')`),
    ).toEqual([]);
  });

  test.each<[string, unknown, number, string]>([
    ['a list', '[]', 400, 'M_BAD_JSON'],
    ['half a document', '{"a": ', 400, 'M_NOT_JSON'],
    ['a lone surrogate', '{"a": "\\ud83d"}', 400, 'M_BAD_JSON'],
    ['two megabytes', { a: 'x'.repeat(2 * 1024 * 1024) }, 413, 'M_TOO_LARGE'],
  ])('is not made of %s', async (what, body, status, errcode) => {
    const client = await startClientApi(store);
    const token = await client.user(`amy.${what.replace(/\W/g, '')}`);
    const { body: who } = await client.ask('GET', `${V3}/account/whoami`, undefined, token);
    const path = `${V3}/user/${String(who['user_id'])}/account_data/a`;
    expect(await client.ask('PUT', path, body, token)).toMatchObject({ status, body: { errcode } });
    expect((await client.ask('GET', path, undefined, token)).status).toBe(404);
  });
});

describe('push rules', () => {
  let users = 0;

  test('are put, told, switched off, changed and taken away one by one', async () => {
    const client = await startClientApi(store);
    const token = await client.user('hermes');
    const get = async (path: string) => (await client.ask('GET', `${RULES}${path}`, undefined, token)).body;
    const put = (path: string, body: unknown) => client.ask('PUT', `${RULES}${path}`, body, token);
    const conditions = [{ kind: 'event_match', key: 'content.body', pattern: 'limbo' }];
    expect((await put('/override/limbo', { actions: ['notify'], conditions })).body).toEqual({});
    expect(await get('/override/limbo')).toEqual({
      ...{ rule_id: 'limbo', default: false, enabled: true },
      ...{ actions: ['notify'], conditions },
    });
    await put('/override/limbo/enabled', { enabled: false });
    expect(await get('/override/limbo/enabled')).toEqual({ enabled: false });
    await put('/underride/.m.rule.message/actions', { actions: [] });
    expect(await get('/underride/.m.rule.message/actions')).toEqual({ actions: [] });
    await put(`/room/${encodeURIComponent(ROOM)}`, { actions: [] });
    const all = (await client.ask('GET', `${V3}/pushrules/`, undefined, token)).body;
    expect(all).toEqual({ global: await get('/') });
    const { body } = await client.ask(
      'GET',
      `${V3}/user/@hermes:here.test/account_data/m.push_rules`,
      undefined,
      token,
    );
    expect(body).toEqual(all);
    expect((await client.ask('DELETE', `${RULES}/override/limbo`, undefined, token)).status).toBe(200);
    expect((await client.ask('GET', `${RULES}/override/limbo`, undefined, token)).status).toBe(404);
  });

  test('that several devices change at the same time are all kept', async () => {
    const client = await startClientApi(store);
    const token = await client.user('bender');
    const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
    await Promise.all(
      ids.map((id) => client.ask('PUT', `${RULES}/content/${id}`, { actions: [], pattern: id }, token)),
    );
    const { body } = await client.ask('GET', `${RULES}/`, undefined, token);
    const told = (body['content'] as { rule_id: string }[]).map((rule) => rule.rule_id);
    expect(told.sort()).toEqual(['.m.rule.contains_user_name', ...ids]);
  });

  test.each([
    ['GET', '/override/nothing', undefined, 404, 'M_NOT_FOUND'],
    ['DELETE', '/override/nothing', undefined, 404, 'M_NOT_FOUND'],
    ['DELETE', '/override/.m.rule.master', undefined, 404, 'M_NOT_FOUND'],
    ['PUT', '/override/nothing/enabled', { enabled: true }, 404, 'M_NOT_FOUND'],
    ['PUT', '/content/.m.rule.master/actions', { actions: [] }, 404, 'M_NOT_FOUND'],
    ['PUT', '/sender/a?before=nothing', { actions: [] }, 404, 'M_NOT_FOUND'],
    ['PUT', '/sender/a?before=a&after=b', { actions: [] }, 400, 'M_INVALID_PARAM'],
    ['PUT', '/override/.mine', { actions: [] }, 400, 'M_INVALID_PARAM'],
    ['PUT', '/override/a%2Fb', { actions: [] }, 400, 'M_INVALID_PARAM'],
    ['PUT', '/override/a%5Cb', { actions: [] }, 400, 'M_INVALID_PARAM'],
    ['PUT', '/override/%00', { actions: [] }, 400, 'M_INVALID_PARAM'],
    ['PUT', '/rubbish/a', { actions: [] }, 400, 'M_INVALID_PARAM'],
    ['GET', '/rubbish/a', undefined, 400, 'M_INVALID_PARAM'],
    ['PUT', '/override/a', {}, 400, 'M_MISSING_PARAM'],
    ['PUT', '/override/a', { actions: [5] }, 400, 'M_BAD_JSON'],
    ['PUT', '/override/a', { actions: [], conditions: {} }, 400, 'M_BAD_JSON'],
    ['PUT', '/content/a', { actions: [] }, 400, 'M_MISSING_PARAM'],
    ['PUT', '/content/a', { actions: [], pattern: [] }, 400, 'M_BAD_JSON'],
    ['PUT', '/override/.m.rule.master/enabled', { enabled: 'yes' }, 400, 'M_BAD_JSON'],
    ['PUT', '/content/a', { actions: [], pattern: 'x'.repeat(300_000) }, 400, 'M_INVALID_PARAM'],
  ])('%s %s %s is refused, and nothing is changed', async (method, path, body, status, errcode) => {
    const client = await startClientApi(store);
    const name = `scruffy.${++users}`;
    const token = await client.user(name);
    expect(await client.ask(method, `${RULES}${path}`, body, token)).toMatchObject({ status, body: { errcode } });
    expect(await store.query(`SELECT FROM account_data WHERE user_id = $1`, [`@${name}:here.test`])).toEqual([]);
  });
});
