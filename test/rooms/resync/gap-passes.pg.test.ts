/** Gaps of a whole room beside one that a server is silent about. */
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { type EventId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { countCorrectionsDue } from '../../../src/store/events/corrections.ts';
import { readGaps } from '../../../src/store/events/gaps.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { lockRoom } from '../../../src/store/journal/rooms.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import {
  A,
  type Script,
  type ScriptedRejoinder,
  type SmallRoom,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../../support/scripted-room.ts';

const EVIL = 'evil.test' as ServerName;
const madeUp = (i: number): EventId => `$${`made-up-${i}`.padEnd(43, '_')}` as EventId;

interface Begun {
  readonly small: SmallRoom;
  readonly script: Script;
  readonly here: ScriptedRejoinder;
  /** Opens gaps that are due at once. */
  readonly open: (origin: ServerName, ...eventIds: readonly EventId[]) => Promise<void>;
}

/** A whole room in which evil.test speaks. */
async function begin(): Promise<Begun> {
  const small = smallRoom();
  const script = honestScript(small);
  const here = await startScripted(small.room, script);
  await here.join();
  expect((await here.resync()).phase).toBe('complete');
  here.changedByHand();
  const { roomId } = small.room;
  await here.store.query(
    `INSERT INTO room_servers (room_id, server_name, source, since) SELECT $1, unnest($2::text[]), 'spoke', 0
     ON CONFLICT (room_id, server_name) DO UPDATE SET source = 'spoke'`,
    [roomId, [EVIL, A]],
  );
  const open = (origin: ServerName, ...eventIds: readonly EventId[]): Promise<void> =>
    withTransaction(here.store, async (tx) => {
      const at = here.context.clock.now();
      await append(tx, (await lockRoom(tx, roomId))!, [
        { type: 'GapOpened', eventIds, origin, assumedState: null, at },
      ]);
    });
  return { small, script, here, open };
}

test('a gap that is opened while servers are silent about others is filled beside them', async () => {
  const { small, script, here, open } = await begin();
  const { room, message, create, levels, aliceJoin } = small;
  const about = { prev: [message], auth: [create, levels, aliceJoin] };
  const missing = room.make(`@alice:${A}`, 'm.room.topic', '', { topic: 'in the gap' }, about);
  const chain = [...small.auth, aliceJoin];
  let isOpened = false;
  let release: () => void = () => undefined;
  const filled = new Promise<void>((resolve) => (release = resolve));
  script.stateIds = async (server, at) => {
    if (at === missing) {
      release();
      return { state: small.state, chain };
    }
    if (!isOpened) {
      isOpened = true;
      await open(A, missing);
    }
    await filled;
    return refuse(server, 'not-found');
  };
  await open(EVIL, ...[1, 2, 3, 4, 5].map(madeUp));
  await here.resync();
  const gaps = await readGaps(here.store, room.roomId);
  expect(gaps.map(({ attempts }) => attempts)).toEqual([1, 1, 1, 1, 1]);
  expect(gaps.map(({ eventId }) => eventId)).not.toContain(missing);
});

test('corrections that are due while a server is silent about a gap have their turn, and its silence is an attempt', async () => {
  const { small, script, here, open } = await begin();
  const { roomId } = small.room;
  let asked = 0;
  script.stateIds = async (_server, _at, signal) => {
    asked += 1;
    await here.store.query(
      `INSERT INTO correction_causes (room_id, event_id, cause, verdict, states, anchors, since)
       VALUES ($1, $2, 1, true, false, true, 0) ON CONFLICT DO NOTHING`,
      [roomId, small.bobJoin],
    );
    here.wait(61_000);
    await once(signal!, 'abort');
    throw signal!.reason;
  };
  await open(EVIL, madeUp(1));
  await here.resync();
  expect(asked).toBe(1);
  expect(await countCorrectionsDue(here.store, roomId)).toBe(0);
  const [gap] = await readGaps(here.store, roomId);
  expect(gap).toMatchObject({ attempts: 1, lastFailure: 'timeout' });
  expect(gap!.wakeAt).toBeGreaterThan(here.context.clock.now());
});
