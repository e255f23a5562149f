/**
 * What strangers send makes no activity fail: a room that is partial, with residents who tell it things that cannot be, and
 * events of the same kind pushed into it, is taken through its life with every activity called at every step, whatever its turn.
 * Each call ends with an answer. An activity that is not in the table below fails the test.
 */
import { MockActivityEnvironment } from '@temporalio/testing';
import { describe, expect, test } from 'vitest';
import { createActivities } from '../../activities/index.ts';
import { type EventId, type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { FederationError } from '../../src/federation/error.ts';
import { nextAction } from '../../src/resync/next-action.ts';
import { admitEvents } from '../../src/rooms/judge/admit.ts';
import { checkEvents, passed } from '../../src/rooms/judge/check-events.ts';
import { insertPdus } from '../../src/store/events/pdus.ts';
import { countCorrectionsDue } from '../../src/store/events/corrections.ts';
import { countPartial } from '../../src/store/events/event-states.ts';
import { append } from '../../src/store/journal/journal.ts';
import { lockRoom } from '../../src/store/journal/rooms.ts';
import { withTransaction } from '../../src/store/open-store.ts';
import { recordJoinIntent, releaseIntent } from '../../src/store/tables/intents.ts';
import { type Activities, type LoadedResync } from '../../src/temporal/contract.ts';
import {
  A,
  ALICE,
  B,
  BOB,
  type Script,
  type ScriptedRejoinder,
  type SmallRoom,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../support/scripted-room.ts';

const HOUR = 3_600_000;
const STEPS_MAX = 60;
/** Two residents are asked about each gap, and for a hundred lost events each. */
const REQUESTS_A_STEP_MAX = 400;
const signal = new AbortController().signal;

/** What a room is told by its residents, and what is pushed into it. */
interface Hostility {
  readonly version: string;
  /** Nobody knows the events at which there are gaps; else they are said to have the same state as all others. */
  readonly isSilentAtGaps?: boolean;
  /** Events of the state, of its auth chain, and of the timeline; made in the room, or only named. */
  readonly make: (small: SmallRoom) => {
    readonly state: readonly EventId[];
    readonly chain: readonly EventId[];
    readonly pushed: readonly EventId[];
    readonly gaps: readonly EventId[];
  };
}

const madeUp = (name: string, i: number): EventId => `$${`${name}${i}-`.padEnd(43, 'x')}` as EventId;
const someOf = (name: string, count: number): EventId[] => Array.from({ length: count }, (_, i) => madeUp(name, i));

const HOSTILITIES: Readonly<Record<string, Hostility>> = {
  'events that cite each other': {
    version: '1',
    make: ({ room, auth, aliceJoin, bobJoin, message }) => {
      const [x, y, first, last, gap] = ['x', 'y', 'first', 'last', 'gap'].map((name) => `$${name}:${B}` as EventId);
      const base = [...auth, aliceJoin];
      const circle = (id: EventId, type: string, key: string | undefined, prev: EventId[], cited: EventId[]) =>
        room.make(BOB, type, key, { membership: 'join' }, { prev, auth: cited, changes: { event_id: id } });
      return {
        state: [
          ...auth,
          aliceJoin,
          circle(x!, 'm.room.member', BOB, [y!], [...auth, y!]),
          circle(y!, 'm.room.member', '@carol:b.test', [x!], [...auth, x!]),
        ],
        chain: base,
        pushed: [
          circle(first!, 'm.room.message', undefined, [message, last!], [...auth, bobJoin]),
          circle(last!, 'm.room.message', undefined, [first!], [...auth, bobJoin]),
          circle(gap!, 'm.room.message', undefined, [gap!], [...auth, bobJoin, gap!]),
        ],
        gaps: [gap!, x!],
      };
    },
  },
  'events of another room': {
    version: '11',
    make: ({ room, auth, aliceJoin, bobJoin, message }) => {
      const elsewhere = { room_id: `!elsewhere:${B}` };
      const foreign = (type: string, key: string | undefined, cited: readonly EventId[]) =>
        room.make(BOB, type, key, { membership: 'join' }, { prev: [message], auth: cited, changes: elsewhere });
      const member = foreign('m.room.member', BOB, auth);
      const said = foreign('m.room.message', undefined, [...auth, member]);
      const citing = (prev: EventId, ...cited: readonly EventId[]) =>
        room.make(BOB, 'm.room.message', undefined, { body: 'x' }, { prev: [prev], auth: [...auth, ...cited] });
      return {
        state: [...auth, aliceJoin, member, said],
        chain: [member],
        pushed: [citing(said, bobJoin), citing(message, member), citing(said, member), said],
        gaps: [said],
      };
    },
  },
  'events that nobody has': {
    version: '11',
    isSilentAtGaps: true,
    make: ({ room, auth, aliceJoin, bobJoin }) => {
      const lost = someOf('lost', 300);
      const over = (i: number) =>
        room.make(
          BOB,
          'm.room.message',
          undefined,
          { body: 'x' },
          { prev: [lost[i]!], auth: [...auth, bobJoin, lost[i + 1]!] },
        );
      return {
        state: [...auth, aliceJoin, ...lost],
        chain: someOf('chain', 50),
        pushed: Array.from({ length: 20 }, (_, i) => over(i)),
        gaps: lost.slice(0, 20),
      };
    },
  },
  'a flood of events': {
    version: '11',
    make: ({ room, auth, aliceJoin, bobJoin, message }) => {
      const alices = { prev: [message], auth: [...auth, aliceJoin] };
      const state = Array.from({ length: 150 }, (_, i) => room.make(ALICE, 'flood', `${i}`, { i }, alices));
      const pushed = Array.from({ length: 50 }, (_, i) =>
        room.make(
          BOB,
          'm.room.message',
          undefined,
          { i },
          { prev: [message, ...someOf(`parent${i}-`, 19)], auth: [...auth, bobJoin] },
        ),
      );
      return {
        state: [...auth, aliceJoin, ...state, ...someOf('more', 500)],
        chain: someOf('chain', 200),
        pushed,
        gaps: someOf('gap', 20),
      };
    },
  },
};

interface Life {
  readonly roomId: RoomId;
  readonly loaded: LoadedResync;
  readonly now: number;
}

/** How each activity is called in a room, whatever the room's state says is next. */
const CALLS: { readonly [Name in keyof Activities]: (activities: Activities, life: Life) => Promise<unknown> } = {
  loadResync: (activities, { roomId }) => activities.loadResync({ roomId }),
  fetchState: (activities, { roomId, loaded, now }) => {
    const { epoch, state, seq } = loaded;
    const action = nextAction(state, now);
    const again = { attemptNo: state.attempts, resident: A, atEventId: madeUp('never-asked-for', 0) };
    const attempt = action.type === 'fetchState' ? action : again;
    return activities.fetchState({ roomId, epoch, sinceSeq: seq, ...attempt });
  },
  endRound: (activities, { roomId, loaded: { epoch, seq, state } }) =>
    activities.endRound({ roomId, epoch, sinceSeq: seq, round: state.round }),
  endStay: (activities, life) => activities.endStay(cursorOf(life)),
  commandRoom: (activities, { roomId }) =>
    activities.commandRoom({ roomId, name: 'retry', body: ['rubbish'], isSignal: false }),
  resumeResync: (activities, life) => activities.resumeResync(cursorOf(life)),
  leaveRoom: (activities, life) => activities.leaveRoom(cursorOf(life)),
  walkEvents: (activities, life) => activities.walkEvents(cursorOf(life)),
  correctEvents: (activities, life) => activities.correctEvents(cursorOf(life)),
  fetchGaps: (activities, life) => activities.fetchGaps(cursorOf(life)),
  seekMissing: (activities, life) => activities.seekMissing(cursorOf(life)),
  sweep: (activities) => activities.sweep({ budgetMs: 1_000 }),
  finishJoins: (activities) => activities.finishJoins(),
  maintain: (activities) => activities.maintain({ budgetMs: 1_000 }),
};

const cursorOf = ({ roomId, loaded: { epoch, seq } }: Life) => ({ roomId, epoch, sinceSeq: seq });

function activitiesOf({ context }: ScriptedRejoinder): Activities {
  return createActivities({ rooms: context, sweepAfterMs: 0, endWedged: () => Promise.reject(new Error('away')) });
}

/** Joined with an honest answer, and lied to ever since. */
async function lieTo(small: SmallRoom, { make, isSilentAtGaps = false }: Hostility) {
  const script = honestScript(small);
  const here = await startScripted(small.room, script);
  await here.join();
  const { state, chain, pushed, gaps } = make(small);
  lieWith(small, script, state, chain);
  const lie = script.stateIds;
  if (isSilentAtGaps) {
    script.stateIds = (server, at, ...rest) =>
      gaps.includes(at) ? refuse(server, 'not-found') : lie(server, at, ...rest);
  }
  // What the script has no answer for is refused, as by a server that is not well.
  const asked = here.context.federation;
  const federation = new Proxy(asked, {
    get: (target, name) =>
      (Reflect.get(target, name) as unknown) ??
      ((server: ServerName) => Promise.reject(new FederationError(server, 'malformed', 'no'))),
  });
  Object.assign(here.context, { federation });
  await push(here, small, pushed);
  await withTransaction(here.store, async (tx) => {
    const room = (await lockRoom(tx, small.room.roomId))!;
    const opened = { eventIds: gaps, origin: B, assumedState: room.currentState, at: here.context.clock.now() };
    await append(tx, room, [{ type: 'GapOpened', ...opened }]);
  });
  await loseJoin(here, small);
  return here;
}

function lieWith({ room }: SmallRoom, script: Script, state: readonly EventId[], chain: readonly EventId[]): void {
  const held = [...state, ...chain].filter((eventId) => room.events.has(eventId));
  Object.assign(script, { returned: held, returnedChain: held });
  script.stateIds = () => ({ state, chain });
  script.state = () => held.map((eventId) => room.raw(eventId));
  script.event = (server, eventId) => (room.events.has(eventId) ? room.raw(eventId) : refuse(server, 'not-found'));
}

/** As far as the checks before admission let them through, some at a time. */
async function push(
  { context, store }: ScriptedRejoinder,
  { room }: SmallRoom,
  ids: readonly EventId[],
): Promise<void> {
  const { roomId, rules } = room;
  const isHeld = () => Promise.resolve(new Set<EventId>());
  const events = ids.map((eventId) => room.raw(eventId));
  const checked = passed(
    await checkEvents(context, { roomId, rules, events, capReferences: true, isHeld: isHeld, signal }),
  );
  await insertPdus(store, checked);
  for (let start = 0; start < checked.length; start += 50) {
    const some = checked.slice(start, start + 50).map(({ eventId }) => eventId);
    await admitEvents(context, roomId, some);
  }
}

/** A join of another user whose fate is not known; what the resident answers to it now is of no use. */
async function loseJoin({ context, store }: ScriptedRejoinder, { room }: SmallRoom): Promise<void> {
  const userId = '@other:us.test' as const;
  const eventId = room.make(userId, 'm.room.member', userId, { membership: 'join' }, { prev: [], auth: [] });
  const now = context.clock.now();
  const intent = {
    ...{
      what: 'join' as const,
      roomId: room.roomId,
      userId: userId as never,
      eventId,
      event: room.events.get(eventId)!,
    },
    ...{
      roomVersion: room.version,
      resident: A,
      via: [A, B],
      createdAt: now,
      attempts: 0,
      notBefore: now,
      lastReason: null,
    },
  };
  await recordJoinIntent(store, intent);
  await releaseIntent(store, intent);
}

const journalled = new Set<string>();

describe.each(Object.entries(HOSTILITIES))('told of %s', (_, hostility) => {
  test('every activity ends whatever its turn, and so does the resync', { timeout: 120_000 }, async () => {
    const small = smallRoom(hostility.version);
    const here = await lieTo(small, hostility);
    const { roomId } = small.room;
    const activities = activitiesOf(here);
    expect(Object.keys(activities).sort()).toEqual(Object.keys(CALLS).sort());
    const run = <Result>(work: () => Promise<Result>): Promise<Result> =>
      new MockActivityEnvironment({ heartbeatTimeoutMs: 30_000 }).run(work);

    const failed: unknown[] = [];
    let loaded: LoadedResync = await run(() => activities.loadResync({ roomId }));
    let afterwards = 0;
    let steps = 0;
    for (; steps < STEPS_MAX && (afterwards < 3 || loaded.gaps !== undefined); steps += 1) {
      here.asked.length = 0;
      for (const [name, call] of Object.entries(CALLS)) {
        const life = { roomId, loaded, now: here.context.clock.now() };
        await run(() => call(activities, life)).catch((error: unknown) => failed.push([name, steps, error]));
        loaded = await run(() => activities.loadResync({ roomId }));
      }
      expect(here.asked.length).toBeLessThan(REQUESTS_A_STEP_MAX);
      expect(JSON.stringify(loaded.state).length).toBeLessThan(16 * 1_024);
      if (loaded.state.phase === 'complete' || loaded.state.phase === 'ended') afterwards += 1;
      here.wait(2 * HOUR);
    }
    expect(failed).toEqual([]);
    expect(['complete', 'ended']).toContain(loaded.state.phase);
    expect(await countPartial(here.store, roomId)).toBe(0);
    expect(await countCorrectionsDue(here.store, roomId)).toBe(0);
    const types = await here.store.query<{ type: string }>('SELECT DISTINCT type FROM journal');
    for (const { type } of types) journalled.add(type);
  });
});

test('of what activities may find, these rooms had everything', () => {
  const made = ['StateFetchFailed', 'StateFetched', 'RoundFailed', 'EventsWalked', 'ResyncCompleted', 'MissingSought'];
  expect([...journalled]).toEqual(expect.arrayContaining([...made, 'GapGivenUp', 'PduRejected']));
});
