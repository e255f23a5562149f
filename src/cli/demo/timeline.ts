/** Watches one room become whole through the operator API, and tells each step when it happens. */
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { type Clock } from '../../clock.ts';
import { CliError } from '../failure.ts';
import { type OperatorClient } from '../operator-client.ts';

/** A step is told this much later than it happened, at the most; its time is the journal's. */
const POLL_MS = 50;
/** One question for the members waits this long. */
const MEMBERS_WAIT_MS = 60_000;

const joined = z.object({
  room_id: z.string(),
  event_id: z.string(),
  joined_via: z.string(),
  partial: z.boolean(),
  timings_ms: z.record(z.string(), z.number()),
});
const described = z.object({
  journal: z.array(z.object({ seq: z.number(), at: z.string(), type: z.string(), explanation: z.string() })),
});
const listed = z.object({
  members: z.array(z.object({ user_id: z.string(), event_id: z.string(), membership: z.string() })),
});

export type ListedMember = z.output<typeof listed>['members'][number];

export interface WatchOptions {
  readonly client: OperatorClient;
  readonly alias: string;
  readonly userId: string;
  readonly clock: Clock;
  /** Takes each step in order: milliseconds since the join was asked for, a name, one line about it. */
  readonly tell: (atMs: number, step: string, detail: string) => void;
}

export interface WatchedJoin {
  readonly roomId: string;
  /** All memberships: joined, left, banned. */
  readonly members: readonly ListedMember[];
}

/** The steps of a resync by the journal's name for them; what is not here is told under its own name. */
const STEPS: Readonly<Record<string, string>> = {
  StateFetchStarted: 'state asked for',
  StateFetched: 'state fetched',
  EventsWalked: 'join event full',
  ResyncCompleted: 'resync done',
};

/** Joins, and resolves when every member is known. Throws `CliError`. */
export async function joinAndWatch({ client, alias, userId, clock, tell }: WatchOptions): Promise<WatchedJoin> {
  const askedAt = clock.now();
  const since = (at: number): number => at - askedAt;
  tell(0, 'join asked for', `${userId} joins ${alias}`);
  const { body } = await client.ask('/rooms/join', { post: { room: alias, user_id: userId, via: [] } });
  const join = joined.parse(body);
  const timings = Object.entries(join.timings_ms).map(([name, ms]) => `${name} ${Math.round(ms)} ms`);
  const state = join.partial ? 'usable now, with partial state' : 'usable, with full state';
  tell(since(clock.now()), 'join answered', `${state} (${timings.join(', ')})`);

  const path = `/rooms/${encodeURIComponent(join.room_id)}`;
  const known = waitForMembers(client, path);
  let isOver = false;
  const over = known.then(
    () => (isOver = true),
    () => (isOver = true),
  );
  let told = 0;
  const tellNews = async (): Promise<void> => {
    const { journal } = described.parse((await client.ask(path)).body);
    for (const { seq, at, type, explanation } of journal) {
      if (seq <= told) continue;
      told = seq;
      // That of the join itself: told above, as whoever joins sees it.
      if (type !== 'PartialStateJoined') tell(since(Date.parse(at)), STEPS[type] ?? type, explanation);
    }
  };
  // The flag changes while we wait, which the type checker cannot know.
  while (!(isOver as boolean)) {
    await tellNews();
    await Promise.race([delay(POLL_MS), over]);
  }
  const members = await known;
  const knownAt = clock.now();
  await tellNews();
  const present = members.filter(({ membership }) => membership === 'join').length;
  tell(since(knownAt), 'members known', `${present} joined, ${members.length} memberships in all`);
  return { roomId: join.room_id, members };
}

async function waitForMembers(client: OperatorClient, path: string): Promise<readonly ListedMember[]> {
  for (;;) {
    const answer = await client.ask(`${path}/members?wait_ms=${MEMBERS_WAIT_MS}`, { expected: [503] });
    if (answer.status === 200) return listed.parse(answer.body).members;
    const retryAfterMs = Number(answer.body['retry_after_ms']);
    if (!(retryAfterMs > 0)) throw new CliError(`the members are not to be had: ${String(answer.body['error'])}`);
    await delay(Math.min(retryAfterMs, MEMBERS_WAIT_MS));
  }
}
