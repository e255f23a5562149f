/** What is noted once more about a change while its dependants are looked for is looked for, too. */
import { beforeEach, expect, test } from 'vitest';
import { type EventId, type RoomId } from '../../../src/matrix/identifiers.ts';
import { readCorrectionTargets } from '../../../src/store/events/corrections.ts';
import { expandToChildren, lookThrough, readCorrectionCauses } from '../../../src/store/events/expand-causes.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import { openTestStore } from '../../support/postgres.ts';
import { message, state } from '../events.ts';

const { store } = await openTestStore();

let rooms = 0;
let roomId: RoomId;
let judged: EventId;
const body = () =>
  state(`$power-${roomId}`, 'm.room.power_levels', '', { roomId, json: '{"content":{"ban":50}}', hollow: false });

/** A room with an event that was judged by power levels which are hollow, and whose verdict has just changed. */
beforeEach(async () => {
  roomId = `!room-${(rooms += 1)}:there.test` as RoomId;
  const hollow = { ...body(), hollow: true, json: Buffer.from('{"content":{}}') };
  const said = message(`$said-${roomId}`, { roomId, prevEvents: [hollow.eventId] });
  judged = said.eventId;
  await insertPdus(store, [hollow, said]);
  await store.query(`INSERT INTO rooms (room_id, room_version, epoch, partial) VALUES ($1, '11', 1, false)`, [roomId]);
  await store.query(
    `INSERT INTO event_states (event_nid, event_id, room_id, epoch, position, state_before, state_after, verdict, soft_failed, partial, auth_state)
     SELECT nid, event_id, room_id, 1, nid, '', '', 'accepted', false, false,
            CASE WHEN event_id = $2 THEN ARRAY(SELECT nid FROM pdus WHERE event_id = $3) END
       FROM pdus WHERE room_id = $1`,
    [roomId, judged, hollow.eventId],
  );
  await store.query(
    `INSERT INTO correction_causes (room_id, event_id, cause, verdict, states, anchors, since)
     SELECT $1, $2, position, true, false, false, 0 FROM journal_head`,
    [roomId, hollow.eventId],
  );
});

/** Looks for what rests on what changed, as a worker does that nobody disturbs. */
async function findAll(): Promise<EventId[]> {
  for (;;) {
    const due = await readCorrectionCauses(store, roomId, 10);
    if (due.length === 0) break;
    const looking = due.filter(({ lookedTo }) => lookedTo !== null);
    const looked = await lookThrough(store, roomId, looking);
    await expandToChildren(store, roomId, [...due.filter(({ lookedTo }) => lookedTo === null), ...looked.causes]);
  }
  return (await readCorrectionTargets(store, roomId, 10)).map(({ eventId }) => eventId);
}

test('a body that comes between the last look and the expansion is looked for from the beginning on', async () => {
  const due = await readCorrectionCauses(store, roomId, 10);
  const { isLast, causes } = await lookThrough(store, roomId, due);
  expect(isLast).toBe(true);
  await insertPdus(store, [body()]);
  await expandToChildren(store, roomId, causes);
  expect(await findAll()).toContain(judged);
});

test('a body that comes while a look waits for the row is looked for from the beginning on', async () => {
  const due = await readCorrectionCauses(store, roomId, 10);
  let looking: ReturnType<typeof lookThrough> | undefined;
  await withTransaction(store, async (tx) => {
    await insertPdus(tx, [body()]);
    looking = lookThrough(store, roomId, due);
    await expect
      .poll(() =>
        store.query(`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`),
      )
      .toHaveLength(1);
  });
  const { causes } = await looking!;
  await expandToChildren(store, roomId, causes);
  expect(await findAll()).toContain(judged);
});

test('without a body what is done is done, and nothing is looked for twice', async () => {
  const { causes } = await lookThrough(store, roomId, await readCorrectionCauses(store, roomId, 10));
  await expandToChildren(store, roomId, causes);
  expect(await readCorrectionCauses(store, roomId, 10)).toEqual([]);
  expect(await findAll()).toEqual([]);
});
