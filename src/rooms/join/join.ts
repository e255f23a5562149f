/**
 * Joins a room through its residents: make_join, the signed join recorded as an intent, send_join without memberships, the
 * checks of its answer, and one transaction that opens the stay. The full state comes later, by the room's workflow; or with
 * the answer, where the caller wants a classic join.
 */
import { RoomError } from '../error.ts';
import { FederationError, oneLine } from '../../federation/error.ts';
import {
  type JoinTemplate,
  buildJoinEvent,
  readJoinTemplate,
  sendJoinDestination,
} from '../../federation/join-template.ts';
import { sealEvent } from '../../matrix/compose.ts';
import { parsePdu } from '../../matrix/event-format.ts';
import {
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
  domainOf,
  parseRoomId,
} from '../../matrix/identifiers.ts';
import { ROOM_VERSIONS } from '../../matrix/room-versions.ts';
import { invariant } from '../../invariant.ts';
import {
  type JoinIntent,
  deleteJoinIntent,
  readJoinIntents,
  readStaleJoinIntents,
  recordJoinIntent,
} from '../../store/tables/intents.ts';
import { readLocalMembers, readRoom } from '../../store/journal/rooms.ts';
import { type AliasedRoom, askAliasServer } from '../aliases.ts';
import { type FailureClass } from '../../resync/events.ts';
import { type RoomsContext } from '../context.ts';
import { type JoinRequest, type JoinedRoom } from '../contract.ts';
import { commitJoin } from './commit-join.ts';
import { takeJoinAnswer } from './join-answer.ts';

/** Residents asked before a join is given up. */
const RESIDENTS_MAX = 10;
/** An intent this old belongs to no join that is still under way: the longest join request takes less. */
const STALE_INTENT_MS = 15 * 60_000;
/** An intent that could not be finished in a day is let go: residents have forgotten the join as we did. */
const ABANDONED_INTENT_MS = 24 * 3_600_000;
const STALE_INTENTS_A_PASS = 20;
/** Answers after which the join that was sent is not in the room: there is nothing left to finish. */
const DEFINITE: ReadonlySet<FailureClass> = new Set([
  'forbidden',
  'refused',
  'incompatible-version',
  'not-found',
  'malformed',
]);

/** @throws RoomError naming what every resident answered. */
export async function joinRoom(context: RoomsContext, request: JoinRequest): Promise<JoinedRoom> {
  const { userId, signal } = request;
  if (domainOf(userId) !== context.serverName) {
    throw new RoomError('unknown-user', `${userId} is not a user of ${context.serverName}`);
  }
  const timings = new Timings(context);
  const { roomId, servers } = await findRoom(context, request);
  const residents = [...new Set([...request.via, ...servers])].filter((server) => server !== context.serverName);
  const held = await readRoom(context.store, roomId);
  if (held !== undefined) {
    const members = await readLocalMembers(context.store, roomId);
    const ours = members.find((member) => member.userId === userId && member.membership === 'join');
    if (ours !== undefined && held.joinedVia !== null) {
      const { eventId } = ours;
      return {
        roomId,
        eventId,
        joinedVia: held.joinedVia,
        partial: held.partial,
        membersOmitted: false,
        timingsMs: {},
      };
    }
    residents.push(...held.resync.candidates.filter((server) => !residents.includes(server)));
  }
  if (residents.length === 0) {
    throw new RoomError('no-resident', `no server is known that could be asked about ${roomId}; name one with via`);
  }

  const failures: unknown[] = [];
  for (const resident of residents.slice(0, RESIDENTS_MAX)) {
    signal.throwIfAborted();
    try {
      const intent = await prepare(context, roomId, userId, resident, residents, timings, signal);
      return await send(context, intent, request, timings);
    } catch (error) {
      if (!(error instanceof FederationError || error instanceof RoomError) || signal.aborted) throw error;
      if (error instanceof RoomError && (error.kind === 'forbidden' || error.kind === 'busy')) throw error;
      context.logger.warn({ err: error, roomId, resident }, 'a resident could not join us to the room');
      failures.push(error);
    }
  }
  throw summarise(roomId, failures);
}

/** Finishes joins that a resident may have accepted and we lost before they were journalled (matrix-spec#752). */
export async function finishStaleJoins(context: RoomsContext, signal: AbortSignal): Promise<number> {
  const now = context.clock.now();
  let finished = 0;
  for (const intent of await readStaleJoinIntents(context.store, now - STALE_INTENT_MS, STALE_INTENTS_A_PASS)) {
    try {
      await send(context, intent, { signal }, new Timings(context));
      finished += 1;
    } catch (error) {
      if (!(error instanceof FederationError || error instanceof RoomError) || signal.aborted) throw error;
      context.logger.warn(
        { err: error, roomId: intent.roomId, eventId: intent.eventId },
        'a lost join could not be finished',
      );
      if (intent.createdAt < now - ABANDONED_INTENT_MS) await deleteJoinIntent(context.store, intent.eventId);
    }
  }
  return finished;
}

async function findRoom(context: RoomsContext, { room, signal }: JoinRequest): Promise<AliasedRoom> {
  const roomId = parseRoomId(room);
  if (roomId === undefined) return askAliasServer(context, room as RoomAlias, signal);
  const domain = domainOf(room);
  return { roomId, servers: domain === undefined ? [] : [domain] };
}

/** make_join and our own signed event, recorded before anybody sees it. */
async function prepare(
  context: RoomsContext,
  roomId: RoomId,
  userId: UserId,
  resident: ServerName,
  residents: readonly ServerName[],
  timings: Timings,
  signal: AbortSignal,
): Promise<JoinIntent> {
  const answer = await timings.measure('make_join', () =>
    context.federation.makeJoin(resident, roomId, userId, ROOM_VERSIONS, { signal }),
  );
  const reading = readJoinTemplate(answer, ROOM_VERSIONS, { roomId, userId });
  if (!reading.ok) {
    const kind = reading.rule === 'template-room-version' ? 'unsupported-version' : 'unusable-answer';
    throw new RoomError(kind, `${resident} gave an unusable template: ${oneLine(reading.reason)} (${reading.rule})`);
  }
  const { template } = reading;
  const createdAt = context.clock.now();
  const unsigned = buildJoinEvent(template, { roomId, userId, originServerTs: createdAt, random: context.random });
  const { eventId, event } = sealEvent(unsigned, template.rules, context.serverName, context.signingKey);
  const parsed = parsePdu(event, template.rules);
  if (!parsed.ok) {
    throw new RoomError('unusable-answer', `${resident}'s template makes no valid event: ${parsed.reason}`);
  }
  const intent: JoinIntent = {
    roomId,
    userId,
    eventId,
    event,
    roomVersion: template.rules.version,
    resident: sendJoinDestination(template, resident),
    via: residents.slice(0, RESIDENTS_MAX),
    createdAt,
  };
  await recordJoinIntent(context.store, intent);
  return intent;
}

/** send_join with a recorded event, and the commit. The intent goes with the answer, whatever it was, unless none came. */
async function send(
  context: RoomsContext,
  intent: JoinIntent,
  { omitMembers = true, signal }: Pick<JoinRequest, 'omitMembers' | 'signal'>,
  timings: Timings,
): Promise<JoinedRoom> {
  const { roomId, userId, eventId, resident } = intent;
  const template = templateOf(intent);
  const sent = { ...intent, template, omitMembers };
  try {
    const answer = await timings.measure('send_join', () => takeJoinAnswer(context, sent, signal));
    const joined = await timings.measure('commit', () => commitJoin(context, { ...sent, answer }));
    // Other tries of the same join are settled with it, whatever became of them.
    for (const other of await readJoinIntents(context.store, roomId, userId)) {
      await deleteJoinIntent(context.store, other.eventId);
    }
    if (joined.partial) {
      await context.ring(roomId).catch((error: unknown) => {
        context.logger.warn({ err: error, roomId }, 'the workflow could not be started; the sweep will find the room');
      });
    }
    return { roomId, eventId, joinedVia: resident, ...joined, timingsMs: timings.byStep };
  } catch (error) {
    const answered = error instanceof RoomError || (error instanceof FederationError && DEFINITE.has(error.kind));
    if (answered) await deleteJoinIntent(context.store, eventId);
    throw error;
  }
}

function templateOf(intent: JoinIntent): JoinTemplate {
  const reading = readJoinTemplate(intent, ROOM_VERSIONS, intent);
  invariant(reading.ok, 'the template of a recorded join was read before');
  return reading.template;
}

/** The failure that tells most: a refusal over a useless answer over silence. */
function summarise(roomId: RoomId, failures: readonly unknown[]): RoomError {
  const told = failures.map((failure) => (failure instanceof Error ? failure.message : String(failure))).join('; ');
  const refused = failures.find((failure) => failure instanceof FederationError && failure.kind === 'forbidden');
  if (refused !== undefined) {
    return new RoomError('forbidden', `joining ${roomId} was refused: ${told}`, { cause: refused });
  }
  const version = failures.find(
    (failure) =>
      (failure instanceof RoomError && failure.kind === 'unsupported-version') ||
      (failure instanceof FederationError && failure.kind === 'incompatible-version'),
  );
  if (version !== undefined) return new RoomError('unsupported-version', told, { cause: version });
  const unusable = failures.find(
    (failure) => failure instanceof RoomError || (failure instanceof FederationError && failure.kind === 'malformed'),
  );
  const cause = unusable ?? failures[0];
  return new RoomError(
    unusable === undefined ? 'no-resident' : 'unusable-answer',
    `no resident could join us to ${roomId}: ${told}`,
    { cause },
  );
}

/** Milliseconds spent in each step; a step tried again adds up. */
class Timings {
  readonly byStep: Record<string, number> = {};
  private readonly clock: RoomsContext['clock'];

  constructor({ clock }: RoomsContext) {
    this.clock = clock;
  }

  async measure<T>(step: string, work: () => Promise<T>): Promise<T> {
    const start = this.clock.now();
    try {
      return await work();
    } finally {
      this.byStep[step] = (this.byStep[step] ?? 0) + this.clock.now() - start;
    }
  }
}
