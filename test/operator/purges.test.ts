import { afterEach, describe, expect, test } from 'vitest';
import { type PurgeStatus } from '../../src/rooms/purge/contract.ts';
import { RoomError } from '../../src/rooms/error.ts';
import { type RunningServer, TOKEN, WHOLE, portsOfTest, startServer } from './rooms-of-test.ts';

let server: RunningServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

const status: PurgeStatus = {
  ...{ roomId: WHOLE, purgeId: 'p1', step: 'leaving', putOut: ['@a:ours' as never], rows: 0 },
  ...{ requestedAt: Date.UTC(2026, 0, 1), doneAt: null },
};

const purges = {
  plan: () =>
    Promise.resolve({
      roomId: WHOLE,
      members: ['@a:ours' as never],
      openMoves: 0,
      tables: [{ table: 'pdus', rows: 9 }],
    }),
  request: ({ isForced }: { readonly isForced: boolean }) =>
    isForced ? Promise.resolve(status) : Promise.reject(new RoomError('needs-force', 'somebody is in it')),
  status: (purgeId: string) =>
    purgeId === 'p1'
      ? Promise.resolve(status)
      : Promise.reject(new RoomError('unknown-room', 'no purge has that name')),
};

async function ask(path: string, body?: object): Promise<[number, unknown]> {
  server ??= await startServer(portsOfTest({ purges }));
  const response = await fetch(`${server.url}/_rejoinder/v1${path}`, {
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
  });
  return [response.status, await response.json()];
}

const path = `/rooms/${encodeURIComponent(WHOLE)}/purge`;
const begun = {
  ...{ room_id: WHOLE, purge_id: 'p1', step: 'leaving', put_out: ['@a:ours'], rows_deleted: 0 },
  ...{ requested_at: '2026-01-01T00:00:00.000Z', done_at: null },
};

describe('purging by the operator API', () => {
  test('says what would go, and does nothing, where it is asked for that', async () => {
    const plan = { room_id: WHOLE, members: ['@a:ours'], unsettled_moves: 0, tables: [{ table: 'pdus', rows: 9 }] };
    expect(await ask(path, { dry_run: true })).toEqual([200, plan]);
  });

  test('of a room with users of ours is refused without force', async () => {
    const refused = { errcode: 'REJOINDER_NEEDS_FORCE', error: 'somebody is in it' };
    expect(await ask(path, {})).toEqual([409, refused]);
    expect(await ask(path, { force: true })).toEqual([200, begun]);
  });

  test('is told how far it is by its name, and of a name that none has that there is none', async () => {
    expect(await ask('/purges/p1')).toEqual([200, begun]);
    expect(await ask('/purges/p2')).toMatchObject([404, { errcode: 'M_NOT_FOUND' }]);
  });

  test.each([{ force: 1 }, { dry_run: 'no' }, { forced: true }, []])('%j is refused by name', async (body) => {
    expect(await ask(path, body)).toMatchObject([400, { errcode: 'M_INVALID_PARAM' }]);
  });
});
