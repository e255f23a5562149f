/** Watches one room become whole through the operator API, and tells each step when it happens. */
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { type Clock } from '../../clock.ts';
import { CliError } from '../failure.ts';
import { type ShownProgress, descriptionAnswer, joinAnswer, membersAnswer, stateAnswer } from '../operator-answers.ts';
import { type OperatorClient } from '../operator-client.ts';
import { humanCount } from '../output.ts';
import { type Step, type StepName } from './step.ts';

/** A step is told this much later than it happened, at the most; its time is the journal's. */
const POLL_MS = 100;
/** One question for the members waits this long. */
const MEMBERS_WAIT_MS = 60_000;

const described = descriptionAnswer.pick({ attempts: true, fetched: true, progress: true, journal: true });
const listed = z.object({
  members: z.array(membersAnswer.shape.members.element.pick({ user_id: true, event_id: true, membership: true })),
});

export type ListedMember = z.output<typeof listed>['members'][number];

export interface WatchOptions {
  readonly client: OperatorClient;
  /** Alias or id. */
  readonly room: string;
  /** Servers to ask first. */
  readonly via: readonly string[];
  readonly userId: string;
  /** Ask for the whole state at once. */
  readonly classic: boolean;
  readonly clock: Clock;
  /** Takes each step, in order of their times but for those of one look. */
  readonly tell: (step: Step) => void;
  /** Takes how far the step under way is, some times a second; `null`: nothing is known. */
  readonly show: (progress: ShownProgress | null) => void;
}

export interface WatchedJoin {
  readonly roomId: string;
  /** All memberships: joined, left, banned. */
  readonly members: readonly ListedMember[];
  /** When each step happened, the first of its kind, milliseconds after the join was asked for. */
  readonly atMs: Partial<Readonly<Record<StepName, number>>>;
  /** Milliseconds of the join's own steps, such as `make_join`. */
  readonly joinMs: Readonly<Record<string, number>>;
  readonly attempts: number;
  /** Counts of the fetch that brought the state; `null` where the join did. */
  readonly fetched: Readonly<Record<string, number>> | null;
}

/** The steps of a resync by the journal's name for them. The join's own entries are told as whoever joins sees them. */
const JOURNALLED: Readonly<Record<string, StepName>> = {
  StateFetchStarted: 'state-asked',
  StateFetchFailed: 'state-refused',
  StateFetched: 'state-fetched',
  RoundFailed: 'round-failed',
  EventsWalked: 'join-event-full',
  ResyncCompleted: 'resync-done',
};

/** Joins, and resolves when every member is known. Throws `CliError`. */
export async function joinAndWatch(options: WatchOptions): Promise<WatchedJoin> {
  const { client, room, via, userId, classic, clock, tell, show } = options;
  const atMs: Partial<Record<StepName, number>> = {};
  const askedAt = clock.now();
  const happened = (name: StepName, at: number, detail: string): void => {
    atMs[name] ??= at - askedAt;
    tell({ name, atMs: at - askedAt, detail });
  };
  happened('join-asked', askedAt, `${userId} joins ${room}`);
  const answer = await client.ask('/rooms/join', {
    post: { room, user_id: userId, via, partial: !classic },
  });
  const answeredAt = clock.now();
  const join = joinAnswer.parse(answer.body);
  const path = `/rooms/${encodeURIComponent(join.room_id)}`;
  // Both at once, as a client would ask: the one is answered now, the other when the room is whole.
  const known = waitForMembers(client, path, clock);
  known.catch(() => undefined);
  const usable = client.ask(`${path}/state`).then(({ body }) => ({ body, usableAt: clock.now() }));
  usable.catch(() => undefined);
  const took = Object.entries(join.timings_ms).map(([name, ms]) => `${name} ${Math.round(ms)} ms`);
  happened('join-answered', answeredAt, `${join.partial ? 'partial state' : 'full state'}: ${took.join(', ')}`);
  const { body, usableAt } = await usable;
  const { state } = stateAnswer.parse(body);
  happened('room-usable', usableAt, `its state but for the memberships, ${humanCount(state.length)} events, is read`);

  let isOver = false;
  const over = known.then(
    () => (isOver = true),
    () => (isOver = true),
  );
  let told = 0;
  const look = async () => {
    const seen = described.parse((await client.ask(path)).body);
    show(seen.progress);
    for (const { seq, at, type, explanation } of seen.journal) {
      if (seq <= told) continue;
      told = seq;
      const name = JOURNALLED[type];
      if (name === undefined) continue;
      const isFurtherWalk = name === 'join-event-full' && atMs[name] !== undefined;
      happened(isFurtherWalk ? 'events-walked' : name, Date.parse(at), explanation);
    }
    return seen;
  };
  // The flag changes while we wait, which the type checker cannot know.
  while (!(isOver as boolean)) {
    await look();
    await Promise.race([delay(POLL_MS), over]);
  }
  const { members, knownAt } = await known;
  const { attempts, fetched } = await look();
  show(null);
  const present = members.filter(({ membership }) => membership === 'join').length;
  happened(
    'members-answered',
    knownAt,
    `${humanCount(present)} joined, ${humanCount(members.length)} memberships in all`,
  );
  return { roomId: join.room_id, members, atMs, joinMs: join.timings_ms, attempts, fetched };
}

async function waitForMembers(
  client: OperatorClient,
  path: string,
  clock: Clock,
): Promise<{ readonly members: readonly ListedMember[]; readonly knownAt: number }> {
  for (;;) {
    const answer = await client.ask(`${path}/members?wait_ms=${MEMBERS_WAIT_MS}`, { expected: [503] });
    const knownAt = clock.now();
    if (answer.status === 200) return { members: listed.parse(answer.body).members, knownAt };
    const retryAfterMs = Number(answer.body['retry_after_ms']);
    if (!(retryAfterMs > 0)) throw new CliError(`the members are not to be had: ${String(answer.body['error'])}`);
    await delay(Math.min(retryAfterMs, MEMBERS_WAIT_MS));
  }
}
