/**
 * What a client has missed. An answer that is too long to be held is written while it is read.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#syncing
 */
import { Readable } from 'node:stream';
import { MatrixError } from '../../http/matrix-error.ts';
import { parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import {
  type RoomCounts,
  type RoomPart,
  type StatePage,
  type SyncAnswer,
  type UnreadCounts,
} from '../../sync/contract.ts';
import { presenceContent } from '../../matrix/client/presence.ts';
import { queryText } from '../client-request.ts';
import { type ClientContext, type UserEndpoint } from '../context.ts';
import { type UserRequest } from '../client-request.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { PROGRESS, progressOf } from '../progress.ts';

/** A client may wait this long; the longest that clients ask for is half a minute or so. */
const TIMEOUT_MS_MAX = 180_000;
/** Places of the state that the client knows an event of, and that are empty now. Not of the specification, hence the prefix. */
const REMOVED = 'org.rejoinder.removed_state';
const PRESENCES = ['offline', 'online', 'unavailable'];
/** How the state after the timeline is asked for and given (MSC4222); the name of before the specification had it is in use. */
const STATE_AFTER = {
  use_state_after: 'state_after',
  'org.matrix.msc4222.use_state_after': 'org.matrix.msc4222.state_after',
} as const;

export const SYNC_ENDPOINTS: readonly UserEndpoint[] = inForms(R0_AND_V3, {
  method: 'GET',
  path: '/sync',
  answer: async (request, context) => {
    const { requester } = request;
    const stateName = nameOfState(request);
    requirePresence(request);
    const answer = await context.sync.sync({
      userId: requester.userId,
      deviceId: requester.deviceId,
      since: queryText(request, 'since'),
      filter: await filterOf(request, context),
      isFullState: flagOf(request, 'full_state'),
      isStateAfter: stateName !== 'state',
      timeoutMs: timeoutOf(request),
      signal: request.caller,
    });
    const now = context.clock.now();
    if (answer.restOfStates === null) return syncAnswer(answer, stateName, now);
    return Readable.from(written(answer, answer.restOfStates, stateName, now), { objectMode: false });
  },
} satisfies UserEndpoint);

/** Inline, or the id of one that was kept. */
async function filterOf(request: UserRequest, { accounts }: ClientContext): Promise<JsonObject> {
  const text = queryText(request, 'filter');
  if (text === undefined) return {};
  if (!text.startsWith('{')) return await accounts.filter(request.requester.userId, text);
  const parsed = parseJsonObject(Buffer.from(text));
  if (parsed.ok) return parsed.value;
  throw new MatrixError(400, 'M_INVALID_PARAM', `filter: ${parsed.reason}`);
}

function flagOf(request: UserRequest, name: string): boolean {
  const text = queryText(request, name) ?? 'false';
  if (text === 'true' || text === 'false') return text === 'true';
  throw new MatrixError(400, 'M_INVALID_PARAM', `${name}: expected true or false`);
}

function timeoutOf(request: UserRequest): number {
  const text = queryText(request, 'timeout') ?? '0';
  if (/^\d{1,15}$/.test(text)) return Math.min(Number(text), TIMEOUT_MS_MAX);
  throw new MatrixError(400, 'M_INVALID_PARAM', 'timeout: expected milliseconds');
}

/** Nothing is kept of who is there. */
function requirePresence(request: UserRequest): void {
  const presence = queryText(request, 'set_presence') ?? 'online';
  if (PRESENCES.includes(presence)) return;
  throw new MatrixError(400, 'M_INVALID_PARAM', `set_presence: expected one of ${PRESENCES.join(', ')}`);
}

/** Under which name the state is given: `state` is the one before the timeline. */
function nameOfState(request: UserRequest): string {
  const asked = Object.entries(STATE_AFTER).find(([name]) => flagOf(request, name));
  return asked?.[1] ?? 'state';
}

function syncAnswer(answer: SyncAnswer, stateName: string, now: number): JsonObject {
  const { joined, left } = answer;
  const rooms = {
    ...section('join', joined, (part) => ({ ...roomAnswer(part, stateName), ...joinedAnswer(part) })),
    ...section('leave', left, (part) => roomAnswer(part, stateName)),
    ...askedAnswer(answer),
  };
  return { ...userAnswer(answer, now), ...(Object.keys(rooms).length === 0 ? {} : { rooms }) };
}

/** All but the rooms. */
function userAnswer(answer: SyncAnswer, now: number): JsonObject {
  const { nextBatch, accountData, presence, toDevice, deviceLists, oneTimeKeys, unusedFallbackKeys } = answer;
  return {
    next_batch: nextBatch,
    ...(accountData.length === 0 ? {} : { account_data: { events: accountData } }),
    ...(presence.length === 0 ? {} : { presence: { events: presence.map((one) => presenceEvent(one, now)) } }),
    ...(toDevice.length === 0 ? {} : { to_device: { events: toDevice } }),
    ...deviceListsAnswer(deviceLists),
    device_one_time_keys_count: oneTimeKeys,
    device_unused_fallback_key_types: unusedFallbackKeys,
  };
}

function presenceEvent({ userId, ...presence }: SyncAnswer['presence'][number], now: number): JsonObject {
  return { type: 'm.presence', sender: userId, content: presenceContent(presence, now) };
}

function deviceListsAnswer(lists: SyncAnswer['deviceLists']): JsonObject {
  if (lists === null || lists.changed.length + lists.left.length === 0) return {};
  return { device_lists: { changed: lists.changed, left: lists.left } };
}

function askedAnswer({ invited, knocked }: SyncAnswer): JsonObject {
  return {
    ...section('invite', invited, (events) => ({ invite_state: { events } })),
    ...section('knock', knocked, (events) => ({ knock_state: { events } })),
  };
}

/** The same as `syncAnswer`, as text, with the rest of the states in their places. */
async function* written(
  answer: SyncAnswer,
  restOfStates: AsyncIterable<StatePage>,
  stateName: string,
  now: number,
): AsyncGenerator<string> {
  const rest = restOfStates[Symbol.asyncIterator]();
  try {
    let page = await rest.next();
    yield `${openedObject(userAnswer(answer, now))},"rooms":${openedObject(askedAnswer(answer))}`;
    let before = Object.keys(askedAnswer(answer)).length === 0 ? '' : ',';
    for (const [name, parts] of [['join', answer.joined] as const, ['leave', answer.left] as const]) {
      if (parts.size === 0) continue;
      yield `${before}"${name}":{`;
      before = '';
      for (const [roomId, part] of parts) {
        const stateless = { ...statelessAnswer(part), ...(name === 'join' ? joinedAnswer(part) : {}) };
        yield `${before}${JSON.stringify(roomId)}:${openedObject(stateless)},${JSON.stringify(stateName)}:{"events":[`;
        before = part.state.length === 0 ? '' : ',';
        yield listed(part.state);
        for (; page.done !== true && page.value.roomId === roomId; page = await rest.next()) {
          yield before + listed(page.value.events);
          before = ',';
        }
        yield ']}}';
        before = ',';
      }
      yield '}';
    }
    yield '}}';
  } finally {
    await rest.return?.();
  }
}

/** An object without its end. */
function openedObject(value: JsonObject): string {
  return JSON.stringify(value).slice(0, -1);
}

function listed(events: readonly JsonObject[]): string {
  return events.map((event) => JSON.stringify(event)).join(',');
}

function section<Part>(
  name: string,
  parts: ReadonlyMap<string, Part>,
  answerOf: (part: Part) => JsonObject,
): JsonObject {
  if (parts.size === 0) return {};
  return { [name]: Object.fromEntries(Array.from(parts, ([roomId, part]) => [roomId, answerOf(part)])) };
}

function roomAnswer(part: RoomPart, stateName: string): JsonObject {
  return { ...statelessAnswer(part), [stateName]: { events: part.state } };
}

function statelessAnswer({ timeline, isLimited, prevBatch, removed, accountData }: RoomPart): JsonObject {
  return {
    timeline: { events: timeline, limited: isLimited, ...(prevBatch === null ? {} : { prev_batch: prevBatch }) },
    account_data: { events: accountData },
    ...(removed.length === 0
      ? {}
      : { [REMOVED]: removed.map(({ type, stateKey }) => ({ type, state_key: stateKey })) }),
  };
}

function joinedAnswer({ ephemeral, summary, unread, resync }: RoomPart): JsonObject {
  return {
    ephemeral: { events: ephemeral },
    ...(summary === null ? {} : { summary: summaryAnswer(summary) }),
    ...(unread === null
      ? {}
      : {
          unread_notifications: countsAnswer(unread),
          ...(unread.threads === null
            ? {}
            : {
                unread_thread_notifications: Object.fromEntries(
                  Array.from(unread.threads, ([thread, counts]) => [thread, countsAnswer(counts)]),
                ),
              }),
        }),
    ...(resync === null ? {} : { [PROGRESS]: progressOf(resync) }),
  };
}

function countsAnswer({ notified, highlighted }: UnreadCounts): JsonObject {
  return { notification_count: notified, highlight_count: highlighted };
}

function summaryAnswer({ heroes, joined, invited }: RoomCounts): JsonObject {
  return {
    ...(heroes === null ? {} : { 'm.heroes': heroes }),
    ...(joined === null ? {} : { 'm.joined_member_count': joined }),
    ...(invited === null ? {} : { 'm.invited_member_count': invited }),
  };
}
