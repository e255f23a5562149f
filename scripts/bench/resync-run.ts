/**
 * One join of one big room, measured from the moment the join request is sent until the members are answered, and compared
 * with the truth afterwards. What is read for the comparison and the counts comes after the last byte that is timed.
 */
import { setTimeout as delay } from 'node:timers/promises';
import {
  descriptionAnswer,
  joinAnswer,
  membersAnswer,
  notReadyAnswer,
  stateAnswer,
} from '../../src/operator/answer-forms.ts';
import { type EventId } from '../../src/matrix/identifiers.ts';
import { stateDigest } from '../../src/matrix/state-digest.ts';
import { type RequestCount } from '../../src/simulator/contract.ts';
import { type DatabaseWrites, readWrites } from './database.ts';
import { startMeasuring } from './measured.ts';
import { monotonicUs, monotonicUsOf } from './monotonic.ts';
import { type OperatorCaller, type TimedAnswer, operatorCaller, parsed } from './operator.ts';
import { type Window } from './cpu-profile.ts';
import { type Use } from './process-watch.ts';
import { startSecondProcess } from './second-process.ts';
import { type Stage } from './stage.ts';

const MEMBERS_WAIT_MS = 300_000;

/** What is timed, in the order it is expected; seconds since the join request was sent. */
export const STEPS = [
  'join answered',
  'usable: a second process has the state without memberships',
  'state fetched',
  'join event full',
  'resync done: the room is whole',
  '/members answered, asked at the join',
] as const;
export type Step = (typeof STEPS)[number];

export interface ResyncRun {
  readonly times: Readonly<Record<Step, number>>;
  readonly use: Use;
  readonly requests: readonly RequestCount[];
  readonly writes: DatabaseWrites;
  readonly walBytes: number;
  /** What the second process was given. */
  readonly usable: { readonly stateEvents: number; readonly bytes: number };
  /** State fetches that failed before one succeeded: 0 unless something is wrong. */
  readonly failedAttempts: number;
  readonly joinedMembers: number;
  readonly stateEvents: number;
  readonly digest: string;
  /** From the join request to the last byte of the members, for profiles. */
  readonly window: Window;
}

/**
 * Joins the stage's first room and waits until its members are answered. Ends serve, worker and Temporal, because only then
 * PostgreSQL knows all that they wrote. Throws when the room does not become whole, or not equal to the simulator's.
 */
export async function runResync(stage: Stage): Promise<ResyncRun> {
  const { simulator, operator, database } = stage;
  const room = simulator.rooms[0]!;
  const caller = operatorCaller(operator);
  const second = await startSecondProcess();
  try {
    const stopMeasuring = await startMeasuring(stage);
    const fromUs = monotonicUs();
    const sight = second.firstSight(operator, room.roomId);
    const answered = await caller.ask('/rooms/join', { room: room.alias, user_id: userAt(stage), via: [] });
    const join = parsed(joinAnswer, 'join', answered);
    if (!join.partial) throw new Error('the resident gave the whole state: there is no resync to measure');
    const path = `/rooms/${encodeURIComponent(join.room_id)}`;
    const members = await Promise.race([askMembers(caller, path), stage.failed]);
    const usable = await sight;

    const measured = await stopMeasuring();
    const since = (us: number): number => (us - fromUs) / 1e6;
    const { atUs, failedAttempts } = await journalTimes(caller, path);
    const whole = await compare(stage, caller, path, members);
    await stage.stopSystem();
    return {
      times: {
        'join answered': since(answered.atUs),
        'usable: a second process has the state without memberships': since(usable.atUs),
        'state fetched': since(atUs('StateFetched')),
        'join event full': since(atUs('EventsWalked')),
        'resync done: the room is whole': since(atUs('ResyncCompleted')),
        '/members answered, asked at the join': since(members.atUs),
      },
      ...measured,
      writes: await readWrites(database),
      usable,
      failedAttempts,
      ...whole,
      window: { fromUs, toUs: members.atUs },
    };
  } finally {
    second.stop();
    await caller.close();
  }
}

function userAt({ serverName }: Stage): string {
  return `@bench:${serverName}`;
}

/** Asked once; again only when the server's longest wait is over. */
async function askMembers(caller: OperatorCaller, path: string): Promise<TimedAnswer> {
  for (;;) {
    const answer = await caller.ask(`${path}/members?wait_ms=${MEMBERS_WAIT_MS}`);
    if (answer.status !== 503) return answer;
    await delay(notReadyAnswer.parse(JSON.parse(answer.body.toString('utf8'))).retry_after_ms);
  }
}

interface JournalTimes {
  /** When the last entry of a type was journalled, on the monotonic clock; the journal keeps milliseconds. */
  readonly atUs: (type: string) => number;
  readonly failedAttempts: number;
}

async function journalTimes(caller: OperatorCaller, path: string): Promise<JournalTimes> {
  const { journal } = parsed(descriptionAnswer, path, await caller.ask(path));
  return {
    atUs: (type) => {
      const entry = journal.findLast((entry) => entry.type === type);
      if (entry === undefined) throw new Error(`the journal of the room has no ${type}`);
      return monotonicUsOf(Date.parse(entry.at));
    },
    failedAttempts: journal.filter(({ type }) => type === 'StateFetchFailed').length,
  };
}

/** Holds all current state, by event id, and the number of joined members against the simulator's. */
async function compare(
  { simulator }: Stage,
  caller: OperatorCaller,
  path: string,
  members: TimedAnswer,
): Promise<Pick<ResyncRun, 'joinedMembers' | 'stateEvents' | 'digest'>> {
  const truth = await simulator.digest(simulator.rooms[0]!.roomId);
  const { state } = parsed(stateAnswer, path, await caller.ask(`${path}/state?members=true`));
  const digest = stateDigest(state.map(({ event_id: eventId }) => eventId as EventId));
  const joinedMembers = parsed(membersAnswer, path, members).members.filter(
    ({ membership }) => membership === 'join',
  ).length;
  if (digest !== truth.digest || joinedMembers !== truth.joined) {
    throw new Error(
      `the room is not the simulator's: ${state.length} state events, digest ${digest}, ${joinedMembers} joined; ` +
        `it has ${truth.events}, ${truth.digest}, ${truth.joined}`,
    );
  }
  return { joinedMembers, stateEvents: state.length, digest };
}
