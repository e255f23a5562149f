/** What the operator API is asked, parsed at the edge into branded ids and milliseconds, or refused by name. */
import { z } from 'zod';
import {
  type EventId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
  domainOf,
  parseEventId,
  parseRoomAlias,
  parseRoomId,
  parseServerName,
  parseUserId,
} from '../matrix/identifiers.ts';
import { problemsOf } from '../problems.ts';
import { ENTRY_TYPES, type EntryType } from '../resync/entries.ts';
import { said } from '../rooms/command-contract.ts';
import { type JournalQuery } from '../rooms/contract.ts';
import { invalidParam } from './errors.ts';

/** A join asks these servers one after the other; more is a mistake, or a way to make us knock at many doors. */
const VIA_SERVERS_MAX = 20;
/** A local part may be written alone; the grammar for new users (spec, User Identifiers). */
const LOCALPART = /^[a-z0-9._=/+-]{1,200}$/;

function parsed<Id>(expected: string, parse: (text: string) => Id | undefined) {
  return z.string({ error: expected }).transform((text, context): Id => {
    const id = parse(text);
    if (id !== undefined) return id;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
}

const ROOM_EXPECTED = 'a room id (!…) or alias (#name:server)';
const parseRoom = (text: string): RoomId | RoomAlias | undefined => parseRoomId(text) ?? parseRoomAlias(text);

const via = z
  .array(parsed('a server name', parseServerName), { error: 'a list of server names' })
  .max(VIA_SERVERS_MAX, { error: `at most ${VIA_SERVERS_MAX} server names` });

export const joinBody = z.strictObject(
  {
    room: parsed(ROOM_EXPECTED, parseRoom),
    user_id: z.string({ error: 'a user id of this server, or its local part' }),
    via: via.default([]),
    partial: z.boolean({ error: 'true or false' }).default(true),
  },
  { error: 'a JSON object with room and user_id' },
);

const membershipNames = ['join', 'invite', 'leave', 'ban', 'knock'] as const;
const waitMs = z
  .string()
  .regex(/^\d{1,9}$/, { error: 'whole milliseconds' })
  .transform(Number)
  .optional();

export const membersQuery = z.strictObject({
  wait_ms: waitMs,
  membership: z.enum(membershipNames, { error: `one of ${membershipNames.join(', ')}` }).optional(),
});

export const stateQuery = z.strictObject({
  wait_ms: waitMs,
  members: z.enum(['true', 'false'], { error: 'true or false' }).default('false'),
  at: parsed('an event id such as $abc', parseEventId).optional(),
});

const ENTRIES_DEFAULT = 100;
/** Of one page: half a megabyte. */
const ENTRIES_MAX = 1_000;

const position = z
  .string({ error: 'a position of the journal (0 is its beginning), or now' })
  .regex(/^(now|\d{1,15})$/, { error: 'a position of the journal (0 is its beginning), or now' })
  .transform((text) => (text === 'now' ? text : Number(text)));

export const journalQuery = z.strictObject({
  from: position.default(0),
  limit: z
    .string()
    .regex(/^\d{1,9}$/, { error: 'a whole number' })
    .transform(Number)
    .refine((limit) => limit >= 1 && limit <= ENTRIES_MAX, { error: `1 to ${ENTRIES_MAX}` })
    .optional(),
  room_id: parsed('a room id (!…)', parseRoomId).optional(),
  types: z
    .string({ error: 'types of entries, comma-separated' })
    .transform((text) => text.split(','))
    .pipe(z.array(z.enum(ENTRY_TYPES, { error: `some of ${ENTRY_TYPES.join(', ')}` })))
    .optional(),
});

export const correctionsQuery = journalQuery.pick({ from: true, limit: true });

export interface ParsedJoin {
  readonly room: RoomId | RoomAlias;
  readonly userId: UserId;
  readonly via: readonly ServerName[];
  readonly omitMembers: boolean;
}

/** The body of a join; a local part alone means a user of `serverName`. Throws a `MatrixError`. */
export function parseJoin(body: unknown, serverName: ServerName): ParsedJoin {
  const { room, user_id: user, via: servers, partial } = parse(joinBody, body, 'body');
  const userId = parseUserId(LOCALPART.test(user) ? `@${user}:${serverName}` : user);
  if (userId === undefined || domainOf(userId) !== serverName) {
    throw invalidParam(`user_id: expected a user of ${serverName}, such as @alice:${serverName} or alice`);
  }
  return { room, userId, via: servers, omitMembers: partial };
}

const password = z.string({ error: 'a password' });
export const newUserBody = z.strictObject(
  {
    name: z.string({ error: 'a local part, or a user id of this server' }),
    password,
    admin: z.boolean({ error: 'true or false' }).default(false),
  },
  { error: 'a JSON object with name and password' },
);
export const passwordBody = z.strictObject({ password }, { error: 'a JSON object with password' });
export const usersQuery = z.strictObject({ from: z.string({ error: 'a user id' }).default('') });

/** An account to be made. Throws a `MatrixError`. */
export function parseNewUser(body: unknown): z.output<typeof newUserBody> {
  return parse(newUserBody, body, 'body');
}

/** Throws a `MatrixError`. */
export function parseNewPassword(body: unknown): z.output<typeof passwordBody> {
  return parse(passwordBody, body, 'body');
}

/** `from`: users after this one; a NUL, which no user id holds, is left out. Throws a `MatrixError`. */
export function parseUsersQuery(query: unknown): z.output<typeof usersQuery> {
  const { from } = parse(usersQuery, query, 'query');
  return { from: from.replaceAll('\0', '') };
}

/** The user of a path; a local part alone means one of `serverName`. Throws a `MatrixError`. */
export function parseUserParameter(user: string, serverName: ServerName): UserId {
  const userId = parseUserId(user.startsWith('@') ? user : `@${user}:${serverName}`);
  if (userId !== undefined && domainOf(userId) === serverName) return userId;
  throw invalidParam(`user: expected a user of ${serverName}, such as @alice:${serverName} or alice`);
}

export const retryRoomsBody = said.extend({
  resident: parsed('a server name, such as example.org', parseServerName).describe('Rooms that this server is in.'),
  from: z
    .string({ error: 'the next of the page before' })
    .max(1_000, { error: 'the next of the page before' })
    .default('')
    .describe('The next of the page before.'),
});

/** Throws a `MatrixError`. */
export function parseRetryRooms(body: unknown): z.output<typeof retryRoomsBody> {
  const read = parse(retryRoomsBody, body, 'body');
  return { ...read, from: read.from.replaceAll('\0', '') };
}

/** The room of a path, by id or alias. Throws a `MatrixError`. */
export function parseRoomParameter(text: string): RoomId | RoomAlias {
  const room = parseRoom(text);
  if (room === undefined) throw invalidParam(`room: expected ${ROOM_EXPECTED}, percent-encoded`);
  return room;
}

/** `waitMs` is cut to the configured maximum, which is also what an absent one means. */
export function parseMembersQuery(query: unknown, waitMaxMs: number): { waitMs: number; membership: string | null } {
  const { wait_ms: wait = waitMaxMs, membership = null } = parse(membersQuery, query, 'query');
  return { waitMs: Math.min(wait, waitMaxMs), membership };
}

/** The query of a room's state; `waitMs` as in `parseMembersQuery`. Throws a `MatrixError`. */
export function parseStateQuery(
  query: unknown,
  waitMaxMs: number,
): { waitMs: number; members: boolean; at: EventId | undefined } {
  const { wait_ms: wait = waitMaxMs, members, at } = parse(stateQuery, query, 'query');
  return { waitMs: Math.min(wait, waitMaxMs), members: members === 'true', at };
}

/** The application service of a path; a NUL, which no id of one holds, is left out. */
export function parseServiceParameter(text: string): string {
  return text.replaceAll('\0', '');
}

/** Of which transaction an application service is not to be told. */
export const skipServiceBody = said
  .extend({
    transaction: z.string({ error: 'the id of the transaction' }).max(255).optional().describe('The one that waits.'),
    everything: z.literal(true, { error: 'true' }).optional().describe('All that waits, in place of a transaction.'),
  })
  .refine(({ transaction, everything }) => (transaction === undefined) === (everything !== undefined), {
    error: 'transaction, or everything: true',
  });

/** `transaction` absent: everything is to be skipped. Throws a `MatrixError`. */
export function parseSkipService(body: unknown): z.output<typeof skipServiceBody> {
  return parse(skipServiceBody, body ?? {}, 'body');
}

/** Whose decision it is, and why. Throws a `MatrixError`. */
export function parseSaid(body: unknown): z.output<typeof said> {
  return parse(said, body ?? {}, 'body');
}

/** How a room is to be purged. */
export const purgeBody = z.strictObject(
  {
    force: z.boolean({ error: 'true or false' }).default(false),
    dry_run: z.boolean({ error: 'true or false' }).default(false),
  },
  { error: 'a JSON object' },
);

/** Whether a room is to be purged with our users in it, or nothing is to be done but to say what would be. Throws a `MatrixError`. */
export function parsePurge(body: unknown): { readonly isForced: boolean; readonly isDry: boolean } {
  const { force, dry_run: isDry } = parse(purgeBody, body ?? {}, 'body');
  return { isForced: force, isDry };
}

/** Which page of the journal is asked for. Throws a `MatrixError`. */
export function parseJournalPageQuery(query: unknown): JournalQuery & { readonly limit: number } {
  const { from, limit = ENTRIES_DEFAULT, room_id: roomId, types } = parse(journalQuery, query, 'query');
  return { after: from, limit, roomId, types: typesOf(types) };
}

/** Which page of a room's corrections is asked for. Throws a `MatrixError`. */
export function parseCorrectionsQuery(query: unknown): { readonly after: number; readonly limit: number } {
  const { from, limit = ENTRIES_DEFAULT } = parse(correctionsQuery, query, 'query');
  if (from === 'now') throw invalidParam('from: expected a position of the journal (0 is its beginning)');
  return { after: from, limit };
}

/** The event of a path. Throws a `MatrixError`. */
export function parseEventParameter(text: string): EventId {
  const eventId = parseEventId(text);
  if (eventId === undefined) throw invalidParam('event: expected an event id ($…), percent-encoded');
  return eventId;
}

/**
 * From where on the journal is to be followed: a reader who comes back says so in `Last-Event-ID`, and goes on there. Throws a
 * `MatrixError`.
 */
export function parseJournalFollowQuery(query: unknown, lastEventId: string | undefined): JournalQuery {
  const { from, limit, room_id: roomId, types } = parse(journalQuery, query, 'query');
  if (limit !== undefined) throw invalidParam('limit: not known here, events are sent as they come');
  if (lastEventId === undefined || lastEventId === '') return { after: from, roomId, types: typesOf(types) };
  return { after: parse(position, lastEventId, 'Last-Event-ID'), roomId, types: typesOf(types) };
}

function typesOf(types: readonly EntryType[] | undefined): ReadonlySet<EntryType> | undefined {
  return types === undefined ? undefined : new Set(types);
}

function parse<Schema extends z.ZodType>(schema: Schema, input: unknown, whole: string): z.output<Schema> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  throw invalidParam(problemsOf(result.error, whole));
}
