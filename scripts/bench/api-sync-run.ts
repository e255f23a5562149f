/** What `/sync` costs: the first one, long polls that nothing wakes, and how soon a message is in somebody else's. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Listener, startListener } from './api-listener.ts';
import { join, until, wholeAtUs } from './api-run.ts';
import { monotonicUs } from './monotonic.ts';
import { type Stage } from './stage.ts';

const LAZY = encodeURIComponent(JSON.stringify({ room: { state: { lazy_load_members: true } } }));
const POLL_MS = 300_000;
/** Rooms that are made side by side. */
const LANES = 8;

async function withListener<Result>(stage: Stage, work: (listener: Listener) => Promise<Result>): Promise<Result> {
  const listener = await startListener(stage.databaseUrl, stage.serverName);
  try {
    return await Promise.race([work(listener), stage.failed]);
  } finally {
    listener.close();
  }
}

async function secondsOf(times: number, act: () => Promise<unknown>): Promise<number[]> {
  const seconds: number[] = [];
  for (let i = 0; i < times; i += 1) {
    const from = performance.now();
    await act();
    seconds.push((performance.now() - from) / 1_000);
  }
  return seconds;
}

const firstSync = (listener: Listener) => listener.json('GET', `/sync?timeout=0&filter=${LAZY}`);

const createRoom = async (listener: Listener): Promise<string> =>
  String((await listener.json('POST', '/createRoom', { preset: 'public_chat' }))['room_id']);

/** Seconds that each of `times` first lazy syncs takes while the stage's room is partial. */
export async function runFirstSyncs(stage: Stage, times: number): Promise<number[]> {
  const { simulator } = stage;
  const hang = await simulator.inject({ fault: { kind: 'hold', at: { bytes: 1 } }, endpoint: 'state_ids' });
  const roomId = await join(stage);
  await Promise.race([hang.held(), stage.failed]);
  return withListener(stage, async (listener) => {
    const { rooms } = (await firstSync(listener)) as { rooms: { join: Record<string, unknown> } };
    if (!(roomId in rooms.join)) throw new Error('the partial room is not in a lazy sync');
    return secondsOf(times, () => firstSync(listener));
  });
}

/** Seconds that each of `times` first lazy syncs of a user in `rooms` rooms takes. */
export function runManyRooms(stage: Stage, rooms: number, times: number): Promise<number[]> {
  return withListener(stage, async (listener) => {
    let made = 0;
    const lane = async (): Promise<void> => {
      while (made < rooms) {
        made += 1;
        await createRoom(listener);
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    await firstSync(listener);
    return secondsOf(times, () => firstSync(listener));
  });
}

/** The share of a core that `count` long polls take, which nothing wakes, over `seconds`. */
export function runIdle(stage: Stage, count: number, seconds: number): Promise<number> {
  return withListener(stage, async (listener) => {
    await createRoom(listener);
    const since = String((await firstSync(listener))['next_batch']);
    for (let i = 0; i < count; i += 1) {
      listener.json('GET', `/sync?timeout=${POLL_MS}&since=${since}&filter=${LAZY}`).catch(() => undefined);
    }
    await until(async () => (await listener.ask()).waiting >= count);
    const before = await listener.ask();
    const from = performance.now();
    await delay(seconds * 1_000);
    const lasted = (performance.now() - from) / 1_000;
    const after = await listener.ask();
    return (after.cpuSeconds - before.cpuSeconds) / lasted;
  });
}

export interface Talked {
  /** Of each message, from PUT to another client's sync, seconds. */
  readonly arrivals: readonly number[];
  /** From the join of the stage's room until it was whole; `undefined`: it was not joined. */
  readonly resync: number | undefined;
}

/**
 * Sends `rate` messages a second into a room of our own, for `seconds`, or as long as the stage's room, which is joined meanwhile, is
 * made whole.
 */
export function runTalk(stage: Stage, rate: number, seconds: number | 'while-resynced'): Promise<Talked> {
  return withListener(stage, async (listener) => {
    const roomId = await createRoom(listener);
    const sentAt = new Map<string, number>();
    const arrivals: number[] = [];
    let isOver = false;
    const follow = async (): Promise<void> => {
      let since = String((await firstSync(listener))['next_batch']);
      while (!isOver || arrivals.length < sentAt.size) {
        const answer = await listener.json('GET', `/sync?timeout=1000&since=${since}&filter=${LAZY}`);
        since = String(answer['next_batch']);
        const now = performance.now();
        for (const body of bodiesOf(answer, roomId)) arrivals.push((now - (sentAt.get(body) ?? NaN)) / 1_000);
      }
    };
    const following = follow();
    const sends: Promise<unknown>[] = [];
    const begun = performance.now();
    const say = async (isOn: () => boolean): Promise<void> => {
      for (let i = 0; isOn(); i += 1) {
        await delay(Math.max(0, begun + (i * 1_000) / rate - performance.now()));
        sentAt.set(`${i}`, performance.now());
        const path = `/rooms/${encodeURIComponent(roomId)}/send/m.room.message/t${i}`;
        sends.push(listener.json('PUT', path, { msgtype: 'm.text', body: `${i}` }));
      }
    };
    let resync: number | undefined;
    if (seconds === 'while-resynced') {
      let isWhole = false;
      const talking = say(() => !isWhole);
      resync = await resyncSeconds(stage).finally(() => (isWhole = true));
      await talking;
    } else {
      await say(() => performance.now() < begun + seconds * 1_000);
    }
    await Promise.all(sends);
    isOver = true;
    await following;
    return { arrivals, resync };
  });
}

/** Joins the stage's room, and waits until it is whole. */
export async function resyncSeconds(stage: Stage): Promise<number> {
  const fromUs = monotonicUs();
  const roomId = await join(stage);
  await until(async () => {
    const { rows } = await stage.database.query(`SELECT FROM journal WHERE type = 'ResyncCompleted' AND room_id = $1`, [
      roomId,
    ]);
    return rows.length > 0;
  });
  return ((await wholeAtUs(stage)) - fromUs) / 1e6;
}

function bodiesOf(answer: Record<string, unknown>, roomId: string): string[] {
  const { rooms } = answer as {
    rooms?: { join?: Record<string, { timeline?: { events: { type: string; content: { body?: string } }[] } }> };
  };
  const events = rooms?.join?.[roomId]?.timeline?.events ?? [];
  return events.flatMap(({ type, content }) => (type === 'm.room.message' ? [content.body ?? ''] : []));
}
