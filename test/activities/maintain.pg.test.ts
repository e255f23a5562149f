import { expect, test } from 'vitest';
import { maintain } from '../../activities/maintain.ts';
import { type EventId, type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { defaultResyncPolicy } from '../../src/resync/policy.ts';
import { insertPdus, recordOutlierVerdicts } from '../../src/store/events/pdus.ts';
import { type CheckedPdu } from '../../src/verification/contract.ts';
import { silent } from '../federation/tls-server.ts';
import { keyOf } from '../matrix/sample-event.ts';
import { message } from '../store/events.ts';
import { openTestStore } from '../support/postgres.ts';

const { store } = await openTestStore();

const DAY = 86_400_000;
const WHOLE = '!whole:t' as RoomId;
const now = 1_700_000_000_000;

function pass(budgetMs: number, clock: { now(): number } = { now: () => now }) {
  const alive = { signal: new AbortController().signal, heartbeat: () => undefined };
  const rooms = {
    ...{
      serverName: 'here.test' as ServerName,
      signingKey: keyOf('here.test'),
      store,
      clock,
      logger: silent,
    },
    ...{ random: Math.random, policy: defaultResyncPolicy, ring: () => Promise.resolve() },
  };
  return maintain({ rooms }, { budgetMs }, alive);
}

async function fill(): Promise<void> {
  await store.query('DELETE FROM received_transactions');
  await store.query(
    `INSERT INTO received_transactions (origin, txn_id, response, received_at)
     SELECT 'there.test', i::text, '{}', CASE WHEN i <= 2500 THEN $1::bigint ELSE $2::bigint END
       FROM generate_series(1, 2600) AS i`,
    [now - 8 * DAY, now - 6 * DAY],
  );
}

const answersLeft = async (): Promise<number | undefined> =>
  (await store.query<{ n: number }>('SELECT count(*) AS n FROM received_transactions'))[0]?.n;

test('old answers and keys that nobody has needed are deleted, younger ones and valid ones stay', async () => {
  await fill();
  const old = now - 100 * DAY;
  await store.query(
    `INSERT INTO server_keys (server_name, key_id, public_key, valid_until_ts, expired, fetched_at)
     VALUES ('unused.test', 'ed25519:1', 'k', $1, false, $1), ('valid.test', 'ed25519:1', 'k', $2, false, $1),
            ('young.test', 'ed25519:1', 'k', $1, true, $3), ('unused.test', 'ed25519:old', 'k', $2, true, $1)`,
    [old, now + DAY, now - DAY],
  );
  expect(await pass(1_000)).toEqual({
    reopened: 0,
    transactions: 2_500,
    keys: 2,
    staged: 0,
    outliers: 0,
    missing: 0,
    awaited: 0,
    destinations: 0,
    invites: 0,
    chunks: 0,
    purges: 0,
  });
  expect(await answersLeft()).toBe(100);
  const keys = await store.query<{ name: string }>('SELECT server_name AS name FROM server_keys ORDER BY 1');
  expect(keys.map(({ name }) => name)).toEqual(['valid.test', 'young.test']);
  expect(await pass(1_000)).toEqual({
    reopened: 0,
    transactions: 0,
    keys: 0,
    staged: 0,
    outliers: 0,
    missing: 0,
    awaited: 0,
    destinations: 0,
    invites: 0,
    chunks: 0,
    purges: 0,
  });
});

test('a pass whose time is over leaves the rest to the next one', async () => {
  await fill();
  let at = now;
  // Each look at the clock takes a fifth of what the pass may: the first two are of other work, the fifth is the second batch's.
  expect(await pass(5, { now: () => (at += 1) })).toMatchObject({ transactions: 1_000 });
  expect(await pass(1_000)).toMatchObject({ transactions: 1_500 });
});

test('what was given up is forgotten after a day, and the row of a room with nothing staged, but nothing that waits', async () => {
  const at = Date.now();
  await store.query(
    `INSERT INTO staged_pdus (room_id, event_id, origin, raw, received_at, not_before, dropped_at)
     VALUES ('!a:t', '$old', 't', '', 0, 0, $1), ('!a:t', '$young', 't', '', 0, 0, $2), ('!b:t', '$waits', 't', '', 0, 0, NULL)`,
    [at - 2 * DAY, at],
  );
  await store.query(
    `INSERT INTO staged_rooms (room_id, leased_until) VALUES ('!a:t', 0), ('!b:t', 0), ('!empty:t', 0)`,
  );
  expect(await pass(1_000)).toMatchObject({ staged: 1 });
  const left = await store.query<{ event_id: string }>('SELECT event_id FROM staged_pdus ORDER BY 1');
  expect(left.map((row) => row.event_id)).toEqual(['$waits', '$young']);
  const rooms = await store.query<{ room_id: string }>('SELECT room_id FROM staged_rooms ORDER BY 1');
  expect(rooms.map((row) => row.room_id)).toEqual(['!a:t', '!b:t']);
});

test('what the state at a gap lacked so far is forgotten once no state of the room is asked for, and nothing else', async () => {
  const rooms = { '!missing-settled:t': false, '!missing-partial:t': true, '!missing-open:t': false };
  for (const [roomId, partial] of Object.entries(rooms)) {
    await store.query(
      `WITH room AS (INSERT INTO rooms (room_id, room_version, epoch, partial) VALUES ($1, '11', 1, $2))
       INSERT INTO missing_events (room_id, event_id, epoch, why, since, asked_of, is_given_up)
       SELECT $1, name, 1, 'not-delivered', 0, '{}', name = '$without' FROM unnest(ARRAY['$so-far', '$without']) AS i(name)`,
      [roomId, partial],
    );
  }
  await store.query(
    `INSERT INTO gaps (room_id, event_id, epoch, origin, opened_at, wake_at)
     VALUES ('!missing-settled:t', '$given-up', 1, 't', 0, NULL), ('!missing-open:t', '$open', 1, 't', 0, 0)`,
  );
  expect(await pass(1_000)).toMatchObject({ missing: 1 });
  const left = await store.query<{ row: string }>(
    `SELECT room_id || ' ' || event_id AS row FROM missing_events ORDER BY room_id COLLATE "C", event_id COLLATE "C"`,
  );
  expect(left.map(({ row }) => row)).toEqual([
    '!missing-open:t $so-far',
    '!missing-open:t $without',
    '!missing-partial:t $so-far',
    '!missing-partial:t $without',
    '!missing-settled:t $without',
  ]);
});

test('what only the state at a gap was taken without is forgotten after a month, and what a room lacks is not', async () => {
  await store.query(
    `WITH room AS (INSERT INTO rooms (room_id, room_version, epoch, partial) VALUES ('!lacks:t', '11', 1, false))
     INSERT INTO missing_events (room_id, event_id, epoch, why, since, asked_of, is_given_up, gap_id)
     SELECT '!lacks:t', name, 1, 'not-delivered', $1::bigint - age, '{}', true, gap
       FROM (VALUES ('$of-room', $2::bigint, NULL), ('$of-gap', $2, '$gap'), ('$young', 1, '$gap')) AS i(name, age, gap)`,
    [now, 60 * DAY],
  );
  expect(await pass(1_000)).toMatchObject({ missing: 1 });
  const left = await store.query<{ eventId: string }>(
    `SELECT event_id AS "eventId" FROM missing_events WHERE room_id = '!lacks:t' ORDER BY event_id COLLATE "C"`,
  );
  expect(left.map(({ eventId }) => eventId)).toEqual(['$of-room', '$young']);
});

test('what was awaited for a month in vain is forgotten, and what was awaited since is not', async () => {
  await store.query(
    `INSERT INTO awaited_events (room_id, event_id, awaited_by, since)
     SELECT '!awaits:t', name, 'there.test', $1::bigint - age
       FROM (VALUES ('$old', $2::bigint), ('$young', 1)) AS i(name, age)`,
    [now, 31 * DAY],
  );
  expect(await pass(1_000)).toMatchObject({ awaited: 1 });
  const left = await store.query<{ id: string }>(
    `SELECT event_id AS id FROM awaited_events WHERE room_id = '!awaits:t'`,
  );
  expect(left).toEqual([{ id: '$young' }]);
});

test('an invite that is over is forgotten after thirty days, and one that stands never', async () => {
  await store.query(
    `INSERT INTO outside_memberships
            (room_id, user_id, membership, position, event_id, room_version, sender, server, event, stripped, ended_at)
     VALUES ('!over:t', '@u:t', 'leave', 1, '$a', '11', '@s:t', 't', '{}', '[]', $1),
            ('!lately:t', '@u:t', 'leave', 2, '$b', '11', '@s:t', 't', '{}', '[]', $2),
            ('!stands:t', '@u:t', 'invite', 3, '$c', '11', '@s:t', 't', '{}', '[]', NULL)`,
    [now - 31 * DAY, now - 29 * DAY],
  );
  expect(await pass(1_000)).toMatchObject({ invites: 1 });
  const left = await store.query<{ id: RoomId }>(`SELECT room_id AS id FROM outside_memberships ORDER BY 1`);
  expect(left.map(({ id }) => id)).toEqual(['!lately:t', '!stands:t']);
});

test('a failure of a server is forgotten a day after its rest, if nothing was asked of it since', async () => {
  await store.query(
    `INSERT INTO destinations (server_name, failures, not_before, last_failure, last_failed_at)
     VALUES ('gone.test', 9, $1, 'unreachable', $1), ('lately.test', 1, $2, 'unreachable', $1), ('rests.test', 1, $3, 'rate-limited', $1)`,
    [now - 2 * DAY, now - DAY / 2, now + DAY],
  );
  expect(await pass(1_000)).toMatchObject({ destinations: 1 });
  const left = await store.query<{ name: string }>(`SELECT server_name AS name FROM destinations ORDER BY 1`);
  expect(left.map(({ name }) => name)).toEqual(['lately.test', 'rests.test']);
});

test('of events that nobody has judged those that nothing needs are deleted after a day, and no others', async () => {
  const unjudged = (name: string, about: Partial<CheckedPdu> = {}): CheckedPdu =>
    message(`$${name}`, { roomId: WHOLE, authEvents: ['$nobody-has-it' as EventId], ...about });
  const outliers = [
    unjudged('lost'),
    unjudged('cites-lost', { authEvents: ['$lost' as EventId] }),
    unjudged('of-no-room', { roomId: '!nobody:t' as RoomId }),
    unjudged('young'),
    unjudged('judged'),
    unjudged('in-the-timeline'),
    unjudged('parent'),
    unjudged('anchor'),
    unjudged('left-out'),
    unjudged('awaited'),
    unjudged('could-be-judged', { authEvents: ['$judged' as EventId] }),
    ...['partial', 'joining'].map((why) => unjudged(`room-${why}`, { roomId: `!${why}:t` as RoomId })),
    // In rooms where something waits for ever nothing else is kept for it.
    ...['gap', 'lacking', 'staged'].map((why) => unjudged(`beside-${why}`, { roomId: `!${why}:t` as RoomId })),
    unjudged('gap', { roomId: '!gap:t' as RoomId }),
    unjudged('lacking', { roomId: '!lacking:t' as RoomId }),
    unjudged('staged', { roomId: '!staged:t' as RoomId, authEvents: ['$cited' as EventId] }),
    unjudged('cited', { roomId: '!staged:t' as RoomId, authEvents: ['$cited-by-that' as EventId] }),
    unjudged('cited-by-that', { roomId: '!staged:t' as RoomId }),
  ];
  await insertPdus(store, outliers);
  await store.query(`UPDATE pdus SET stored_at = CASE WHEN event_id = '$young' THEN $1::bigint ELSE $2::bigint END`, [
    now - DAY / 2,
    now - 2 * DAY,
  ]);
  await recordOutlierVerdicts(store, WHOLE, [{ eventId: '$judged' as EventId, verdict: 'rejected', authDepth: null }]);
  for (const sql of [
    `INSERT INTO rooms (room_id, room_version, partial) VALUES ('!whole:t', '11', false), ('!partial:t', '11', true)`,
    `INSERT INTO event_states (event_nid, event_id, room_id, epoch, position, state_before, state_after, verdict, soft_failed, partial)
     SELECT nid, event_id, room_id, 1, 1, '', '', 'rejected', false, false FROM pdus WHERE event_id = '$in-the-timeline'`,
    `INSERT INTO event_edges (room_id, prev_event_id, event_id) VALUES ('!whole:t', '$parent', '$in-the-timeline')`,
    `INSERT INTO anchors (room_id, event_id, epoch, state_after, partial) VALUES ('!whole:t', '$anchor', 1, '', false)`,
    `INSERT INTO left_out (room_id, event_id, anchor_id) VALUES ('!whole:t', '$left-out', '$anchor')`,
    `INSERT INTO awaited_events (room_id, event_id) VALUES ('!whole:t', '$awaited')`,
    `INSERT INTO gaps (room_id, event_id, epoch, origin, opened_at, wake_at) VALUES ('!gap:t', '$gap', 1, 't', 0, 0)`,
    `INSERT INTO missing_events (room_id, event_id, epoch, why, since, asked_of, is_given_up)
     VALUES ('!lacking:t', '$lacking', 1, 'not-delivered', 0, '{}', true)`,
    `INSERT INTO join_intents (event_id, room_id, user_id, event, room_version, resident, via, created_at)
     VALUES ('$join', '!joining:t', '@me:t', '{}', '11', 't', '{}', 0)`,
    `INSERT INTO staged_pdus (room_id, event_id, origin, raw, received_at, not_before)
     VALUES ('!staged:t', '$staged', 't', '', 0, 0)`,
  ]) {
    await store.query(sql);
  }
  expect(await pass(10_000)).toMatchObject({ outliers: 6 });
  const left = await store.query<{ id: string }>('SELECT event_id AS id FROM pdus ORDER BY nid');
  expect(left.map(({ id }) => id).sort()).toEqual(
    outliers
      .map(({ eventId }) => eventId)
      .filter((id) => !/^\$(lost|cites-lost|of-no-room|beside-.*)$/.test(id))
      .sort(),
  );
  expect(await pass(10_000)).toMatchObject({ outliers: 0 });
});
