/**
 * The operator API's answers as its readers check them: commands, demo and benches. What a reader does not look at it leaves
 * out with `pick`, so that an older command line goes on with a newer server.
 */
import { z } from 'zod';
import { CliError } from './failure.ts';

/** `POST /rooms/join`. */
export const joinAnswer = z.object({
  room_id: z.string(),
  event_id: z.string(),
  joined_via: z.string(),
  partial: z.boolean(),
  /** Milliseconds by step. */
  timings_ms: z.record(z.string(), z.number()),
});

const room = z.object({
  room_id: z.string(),
  name: z.string().nullable(),
  canonical_alias: z.string().nullable(),
  phase: z.string(),
  resident: z.string().nullable(),
  joined_via: z.string().nullable(),
  joined_at: z.string().nullable(),
  members_known: z.number(),
  members: z.number().nullable(),
  servers: z.number(),
  attempts: z.number(),
  epoch: z.number(),
  fetched: z.record(z.string(), z.number()).nullable(),
  /** Events that the state was taken without, since every copy that came was bad; `null`: none. Servers of an earlier version do not say. */
  unusable: z
    .object({
      events: z.number(),
      first: z.array(z.object({ event_id: z.string(), why: z.string(), from: z.array(z.string()) })),
    })
    .nullish(),
  next_wake_at: z.string().nullable(),
  /** Servers of an earlier version do not say what the failure means. */
  last_failure: z
    .object({ resident: z.string(), outcome: z.string().optional(), failure: z.string(), reason: z.string() })
    .nullable(),
  /** Why residents are asked no more; `null`: they are. Servers of an earlier version do not say. */
  parked: z.object({ because: z.string(), reason: z.string(), leaving: z.boolean(), since: z.string() }).nullish(),
  /** What the state lacks; `null`: nothing. Servers of an earlier version do not say. */
  degraded: z
    .object({
      missing_events: z.number(),
      orphaned: z.boolean().optional(),
      found_later: z.number(),
      fell_with_them: z.number(),
      since: z.string(),
      first: z.array(z.object({ event_id: z.string(), why: z.string() })),
    })
    .nullish(),
});

/** `GET /rooms`. */
export const roomsAnswer = z.object({ rooms: z.array(room) });

const progress = z.discriminatedUnion('step', [
  z.object({ step: z.literal('fetch'), wanted: z.number(), held: z.number(), bytes: z.number() }),
  z.object({ step: z.literal('walk'), walked: z.number(), remaining: z.number() }),
]);

const said = z.object({
  resident: z.string(),
  by: z.string().nullable(),
  reason: z.string().nullable(),
  since: z.string().nullable(),
});

/** `GET /rooms/{room}`. */
export const descriptionAnswer = room.extend({
  /** What operators have said of it. Servers of an earlier version do not say. */
  pinned: z.array(said).default([]),
  banned: z.array(said).default([]),
  policy: z.record(z.string(), z.union([z.string(), z.number()])).default({}),
  progress: progress.nullable(),
  gaps: z.array(
    z.object({
      event_id: z.string(),
      opened_at: z.string(),
      attempts: z.number(),
      next_try_at: z.string().nullable(),
      last_reason: z.string().nullable(),
    }),
  ),
  /** Events judged again with full state, and of these those whose verdict is another. */
  walked: z.number(),
  corrected: z.number(),
  /** What is to be corrected yet, and how far that is. Servers of an earlier version do not say. */
  corrections_due: z
    .object({
      changes: z.number(),
      events: z.number(),
      oldest_since: z.string().nullable(),
      judged: z.number(),
      changed: z.number(),
    })
    .nullish(),
  staged_events: z.number(),
  oldest_staged_at: z.string().nullable(),
  /** Servers of an earlier version do not say. */
  waiting_events: z
    .array(
      z.object({
        event_id: z.string(),
        origin: z.string(),
        received_at: z.string(),
        attempts: z.number(),
        reason: z.string().nullable(),
      }),
    )
    .default([]),
  dropped_events: z.array(
    z.object({ event_id: z.string(), origin: z.string(), dropped_at: z.string(), reason: z.string() }),
  ),
  /** Servers of an earlier version do not say. */
  missing_events: z
    .array(
      z.object({
        event_id: z.string(),
        why: z.string(),
        type: z.string().nullable(),
        since: z.string(),
        asked_of: z.array(z.string()),
        /** Servers of an earlier version do not say. */
        named_by: z.array(z.string()).default([]),
        gap: z.string().nullable().default(null),
        found_at: z.string().nullable(),
      }),
    )
    .default([]),
  open_joins: z
    .array(
      z.object({
        what: z.enum(['join', 'leave']),
        user_id: z.string(),
        resident: z.string(),
        since: z.string(),
        attempts: z.number(),
        next_try_at: z.string(),
        last_reason: z.string().nullable(),
      }),
    )
    .default([]),
  journal: z.array(
    z.object({
      position: z.number().default(0),
      seq: z.number(),
      at: z.string(),
      type: z.string(),
      explanation: z.string(),
    }),
  ),
});

/** `POST /rooms/{room}/{command}`. */
export const commandAnswer = z.object({ changed: z.boolean(), explanation: z.string() });

/** `POST /rooms/retry`, a page. */
export const retriedAnswer = z.object({ retried: z.array(z.string()), next: z.string().nullable() });

/** `GET /rooms/{room}/members`. */
export const membersAnswer = z.object({
  members: z.array(
    z.object({
      user_id: z.string(),
      event_id: z.string(),
      membership: z.string(),
      display_name: z.string().nullable(),
    }),
  ),
});

/** `GET /rooms/{room}/state`, of which readers compare the ids. */
export const stateAnswer = z.object({ state: z.array(z.object({ event_id: z.string() })) });

const witness = z.looseObject({ event_id: z.string(), says: z.string() });

/** An entry of `GET /journal`, of which each is one in its pages and one event of its stream. */
export const journalEntry = z.object({
  position: z.number(),
  room_id: z.string(),
  recorded_at: z.string(),
  type: z.string(),
  explanation: z.string(),
});

/** `GET /rooms/{room}/corrections`. */
export const correctionsAnswer = z.object({
  corrections: z.array(
    // The rest of an entry is handed on as it is.
    journalEntry.loose().extend({
      turned_out_otherwise: z.array(z.object({ was: witness.nullable(), is: witness.nullable() })),
    }),
  ),
  next: z.number(),
  head: z.number(),
});

/** `GET /events/{event}`: for people in sentences, some of them under the one before. */
export const storyAnswer = z.object({ verdict: z.string(), story: z.array(z.string()) });

/** With status 503: the room has no full state yet. */
export const notReadyAnswer = z.object({ retry_after_ms: z.number() });

export type RoomAnswer = z.output<typeof room>;
export type ShownProgress = z.output<typeof progress>;

/** Checks an answer. Throws a `CliError` for one of another form. */
export function understood<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new CliError('the server answered in a form that this command does not know', {
    hint: 'Use a command line of the version of the server; --json prints the answer as it is.',
  });
}

/** Who has an account, a page. */
export const usersAnswer = z.object({
  users: z.array(
    z.object({
      user_id: z.string(),
      admin: z.boolean(),
      created_at: z.string(),
      deactivated_at: z.string().nullable(),
    }),
  ),
  /** The next page begins after it; null: there is none. */
  next: z.string().nullable(),
});

/** How far a purge is. */
export const purgeAnswer = z.object({
  room_id: z.string(),
  purge_id: z.string(),
  step: z.string(),
  put_out: z.array(z.string()),
  done_at: z.string().nullable(),
});

/** What a purge would delete. */
export const purgePlanAnswer = z.object({
  room_id: z.string(),
  members: z.array(z.string()),
  unsettled_moves: z.number(),
  tables: z.array(z.object({ table: z.string(), rows: z.number() })),
});

/** Whose account was made or changed. */
export const createdUserAnswer = z.object({ user_id: z.string() });
