/** Watches one room become whole through the operator API, and tells each step when it happens. */
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { type Clock } from '../../clock.ts';
import { CliError } from '../failure.ts';
import { type ShownProgress, joinAnswer, membersAnswer, stateAnswer } from '../../operator/answer-forms.ts';
import { type OperatorClient } from '../operator-client.ts';
import { humanCount } from '../output.ts';
import { type ShownCorrection } from './shown-correction.ts';
import { type Step, type StepName } from './step.ts';
import { type Person } from './person.ts';
import { type RoomTalk, type Said } from './talk.ts';
import { type RoomNews, createRoomWatch } from './watch-room.ts';

/** A step is told this much later than it happened, at the most; its time is the journal's. */
const POLL_MS = 100;
/** What was said is judged within this time; else the room goes on without. An answer that stands still is given up after 15 s. */
const TALK_MS_MAX = 10_000;
const TALK_POLL_MS = 20;
const GREETING = 'Hello! Can you hear me?';
/** One question for the members waits this long. */
const MEMBERS_WAIT_MS = 60_000;

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
  /** What is to be said while the room is partial. */
  readonly talk?: RoomTalk;
  /** Somebody at a client, who joins and speaks while the room is partial. */
  readonly person?: Person;
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
  /** What was said while the room was partial. */
  readonly said: readonly Said[];
  /** Verdicts that were otherwise when the full state was known. */
  readonly corrections: readonly ShownCorrection[];
}

/** Joins, and resolves when every member is known. Throws `CliError`. */
export async function joinAndWatch(options: WatchOptions): Promise<WatchedJoin> {
  const { client, room, via, userId, classic, clock, talk, person, tell, show } = options;
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
  const watch = createRoomWatch(client, path);
  // All at once: a client would ask for the members at once, too; they are answered when the room is whole.
  const known = waitForMembers(client, path, clock);
  known.catch(() => undefined);
  const usable = client.ask(`${path}/state`).then(({ body }) => ({ body, usableAt: clock.now() }));
  usable.catch(() => undefined);
  let said: readonly Said[] = [];
  /** Told with what else is new, in the order in which it happened. */
  const heard: RoomNews[] = [];
  const hear = (name: StepName, detail: string): void => void heard.push({ name, at: clock.now(), detail });
  const talking = async (): Promise<void> => {
    if (!join.partial || talk === undefined) return;
    said = await untilJudged(talk, () => watch.staged());
    hear('room-talked', `${humanCount(said.length)} events came, and are judged by the partial state`);
    if (person !== undefined) await converse(person, join.room_id, talk, hear);
  };
  const talked = talkAndLetGo(talking, talk);
  talked.catch(() => undefined);
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
  const look = async () => {
    const { progress, news, ...rest } = await watch.look(said);
    show(progress);
    const all = [...heard.splice(0), ...news].sort((a, b) => a.at - b.at);
    for (const { name, at, detail } of all) {
      const isFurtherWalk = name === 'join-event-full' && atMs[name] !== undefined;
      happened(isFurtherWalk ? 'events-walked' : name, at, detail);
    }
    return rest;
  };
  // The flag changes while we wait, which the type checker cannot know.
  while (!(isOver as boolean)) {
    await look();
    await Promise.race([delay(POLL_MS), over, talked.then(() => over)]);
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
  const { corrections } = watch;
  return { roomId: join.room_id, members, atMs, joinMs: join.timings_ms, attempts, fetched, said, corrections };
}

/** Lets a room go as soon as all is said and judged, or after the time there is for it. */
async function talkAndLetGo(talk: () => Promise<void>, room: RoomTalk | undefined): Promise<void> {
  if (room === undefined) return;
  const talking = talk();
  try {
    await Promise.race([talking, delay(TALK_MS_MAX, undefined, { ref: false })]);
  } finally {
    await room.letGo();
  }
  await talking;
}

/** Has somebody say something at a client, and somebody in the room answer. */
async function converse(
  person: Person,
  roomId: string,
  talk: RoomTalk,
  hear: (name: StepName, detail: string) => void,
): Promise<void> {
  const spoken = await person.say(roomId, GREETING);
  hear('client-spoke', `${person.userId}, in the partial room: ${GREETING}`);
  const answer = await person.shown(roomId, await talk.answer(spoken));
  hear('answer-shown', `${answer.sender}: ${answer.body}`);
}

async function untilJudged(talk: RoomTalk, staged: () => Promise<number>): Promise<readonly Said[]> {
  const said = await talk.speak();
  const deadline = performance.now() + TALK_MS_MAX;
  while ((await staged()) > 0 && performance.now() < deadline) await delay(TALK_POLL_MS);
  return said;
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
