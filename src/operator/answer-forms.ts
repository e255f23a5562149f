/**
 * The forms of the operator API's answers: its description (openapi.ts) gives them, and its readers check what they get by them, as
 * commands, demo and benches do. What a reader does not look at it leaves out with `pick`, so that an older command line goes on with
 * a newer server.
 */
import { z } from 'zod';

/** `POST /rooms/join`. */
export const joinAnswer = z.object({
  room_id: z.string(),
  event_id: z.string(),
  joined_via: z.string(),
  partial: z.boolean(),
  members_omitted: z.boolean(),
  /** Milliseconds by step. */
  timings_ms: z.record(z.string(), z.number()),
});

const room = z.object({
  room_id: z.string(),
  name: z.string().nullable(),
  canonical_alias: z.string().nullable(),
  room_version: z.string().nullable(),
  phase: z.string(),
  resident: z.string().nullable(),
  joined_via: z.string().nullable(),
  joined_at: z.string().nullable(),
  members_known: z.number(),
  members: z.number().nullable(),
  servers: z.number(),
  attempts: z.number(),
  round: z.number(),
  states_to_fetch: z.number(),
  /** Events judged again with full state, and of these those whose verdict is another. */
  walked: z.number(),
  corrected: z.number(),
  /** Of the ids of the state's events, SHA-256. */
  digest: z.string().nullable(),
  completed_at: z.string().nullable(),
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
    .object({
      resident: z.string(),
      outcome: z.string().optional(),
      failure: z.string(),
      reason: z.string(),
      at: z.string(),
    })
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
      cited_by_event_of: z.string(),
      opened_at: z.string(),
      attempts: z.number(),
      next_try_at: z.string().nullable(),
      last_resident: z.string().nullable(),
      last_failure: z.string().nullable(),
      last_reason: z.string().nullable(),
    }),
  ),
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
        what: z.enum(['join', 'knock', 'leave']),
        user_id: z.string(),
        event_id: z.string(),
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
export const commandAnswer = z.object({
  room_id: z.string(),
  changed: z.boolean().describe('Whether anything is otherwise now.'),
  explanation: z.string().describe('What was decided, or why nothing is changed, as a sentence.'),
});

const nextPage = z.string().nullable().describe('The next page begins after it; null: there is none.');

/** `POST /rooms/retry`, a page. */
export const retriedAnswer = z.object({ retried: z.array(z.string()), next: nextPage });

const rows = z.number().describe('How many there are in the list, which is written while it is read.');
const lacking = { degraded: z.literal(true).optional().describe('The state lacks events that nobody has.') };

/** `GET /rooms/{room}/members`. */
export const membersAnswer = z.object({
  room_id: z.string(),
  ...lacking,
  members: z.array(
    z.object({
      user_id: z.string(),
      event_id: z.string(),
      membership: z.string(),
      display_name: z.string().nullable(),
    }),
  ),
  total: rows,
});

/** A room may hold a hundred thousand: its readers look no further into them here. */
const pdu = z.unknown().describe('The event, as https://spec.matrix.org/v1.16/#events has it.');

/** `GET /rooms/{room}/state`. */
export const stateAnswer = z.object({
  room_id: z.string(),
  before: z.string().optional().describe('The event before which the state is; absent: it is the current one.'),
  members_included: z.boolean(),
  ...lacking,
  state: z.array(z.object({ event_id: z.string(), event: pdu, redacted_because: pdu.optional() })),
  total: rows,
});

const witness = z.object({
  event_id: z.string(),
  type: z.string(),
  state_key: z.string(),
  says: z.string().describe('What it says there, as part of a sentence.'),
});

/** An entry of `GET /journal`, of which each is one in its pages and one event of its stream. */
export const journalEntry = z.object({
  position: z.number(),
  room_id: z.string(),
  epoch: z.number(),
  recorded_at: z.string(),
  type: z.string(),
  explanation: z.string().describe('What was decided, as a sentence.'),
  data: z.record(z.string(), z.unknown()).describe('The same as data, by type.'),
});

/** `GET /journal`, a page. */
export const journalAnswer = z.object({ entries: z.array(journalEntry), next: z.number(), head: z.number() });

const correction = journalEntry.extend({
  turned_out_otherwise: z.array(z.object({ was: witness.nullable(), is: witness.nullable() })),
});

/** `GET /rooms/{room}/corrections`. */
export const correctionsAnswer = z.object({
  room_id: z.string(),
  corrections: z.array(correction),
  next: z.number(),
  head: z.number(),
});

/** `GET /events/{event}`: for people in sentences, some of them under the one before. */
export const storyAnswer = z.object({
  event_id: z.string(),
  room_id: z.string().nullable(),
  place: z.string(),
  verdict: z.string().nullable(),
  provisional: z.boolean(),
  event: z
    .object({
      type: z.string(),
      state_key: z.string().nullable(),
      sender: z.string(),
      membership: z.string().nullable(),
      prev_events: z.array(z.string()),
      auth_events: z.array(z.string()),
    })
    .nullable(),
  judged_by: z.array(witness),
  history: z.array(correction),
  causes: z.array(correction),
  story: z.array(z.string()),
});

/** With status 503: the room has no full state yet. */
export const notReadyAnswer = z.object({ retry_after_ms: z.number() });

export type RoomAnswer = z.output<typeof room>;
export type ShownProgress = z.output<typeof progress>;

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
  next: nextPage,
});

/** How far a purge is. */
export const purgeAnswer = z.object({
  room_id: z.string(),
  purge_id: z.string(),
  step: z.string(),
  put_out: z.array(z.string()),
  rows_deleted: z.number().nullable().describe('So far; null of one that is done.'),
  requested_at: z.string(),
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
export const changedUserAnswer = z.object({ user_id: z.string() });

/** How application services stand. */
export const servicesAnswer = z.object({
  services: z.array(
    z.object({
      id: z.string(),
      url: z.string().nullable(),
      state: z.string().describe('up-to-date, telling, failing, not-told (it has no url) or unregistered.'),
      position: z.number().nullable().describe('It has been told up to here; null: it never was told anything.'),
      lag: z.number().describe('Positions that it has not been told of, and that may concern it.'),
      oldest_at: z.string().nullable().describe('When the first of them was made.'),
      failures: z.number().describe('Transactions that it did not take, in a row.'),
      failing_since: z.string().nullable(),
      last_failure: z.string().nullable(),
      next_try_at: z.string().nullable(),
      transaction: z
        .object({ id: z.string(), events: z.number(), ephemeral: z.number(), made_at: z.string() })
        .nullable()
        .describe('What waits to be taken, and keeps the rest waiting.'),
    }),
  ),
});

/** `POST /services/{service}/retry`. */
export const retriedServiceAnswer = z.object({ service: z.string() });

/** `POST /services/{service}/skip`: of one transaction its events, of everything the positions between which nothing is told. */
export const skippedServiceAnswer = z.object({
  service: z.string(),
  skipped: z.union([
    z.object({
      transaction: z.string(),
      events: z.array(z.object({ event_id: z.string(), room_id: z.string() })),
    }),
    z.object({ after: z.number(), up_to: z.number() }),
  ]),
});
