/**
 * Joins a room through its residents: make_join (templates.ts), the signed join recorded as an intent, send_join without memberships, the
 * checks of its answer, and one transaction that opens the stay. The full state comes later, by the room's workflow; or with
 * the answer, where the caller wants a classic join.
 *
 * A join whose fate is unclear is sent again, first where it was and then to the next residents; a resident that does not take
 * it makes another. What is still unclear at the end stays recorded, and what a resident took and we cannot use is recorded to
 * be left again (`finish-joins.ts`).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { FederationError } from '../../federation/error.ts';
import {
  type EventId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
  domainOf,
  parseRoomId,
} from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../matrix/room-versions.ts';
import { hasJoinedIn, isKnownBanned } from '../../store/journal/joins.ts';
import { readLocalMembers, readRoom } from '../../store/journal/rooms.ts';
import { type JoinIntent, claimJoinIntents, deleteJoinIntent, releaseIntent } from '../../store/tables/intents.ts';
import { readOutside } from '../../store/tables/outside-memberships.ts';
import { type AliasedRoom, resolveAlias } from '../aliases.ts';
import { type RoomsContext } from '../context.ts';
import { type JoinRequest, type JoinedRoom } from '../contract.ts';
import { RoomError } from '../error.ts';
import { comeBack } from '../send/leave-silently.ts';
import { isPortable, prepareJoin } from './prepare-join.ts';
import { type SendOutcome, sendJoin } from './send-join.ts';
import { intendToLeave, postpone } from './settle-intents.ts';
import { summarise } from './summarise.ts';
import { tellFirst } from './tell-first.ts';
import { type Templates, askForTemplates } from './templates.ts';
import { Timings } from './timings.ts';

/** Residents asked before a join is given up. */
const RESIDENTS_MAX = 10;
/** A resident that takes longer for a template is asked beside the next one, where the configuration does not say otherwise. */
const HEDGE_MS = 3_000;
/** Of a whole join, however many residents are silent; shorter than a claim on an intent lasts. */
const JOIN_MS_MAX = 14 * 60_000;
/** A resident that has taken a join already has little to do when it is sent again. */
const REPEAT_MS_MAX = 60_000;
/** Between two looks whether another join of the same user is over, and for how long it is waited for. */
const OTHER_JOIN_POLL_MS = 500;
const OTHER_JOIN_MS_MAX = 10 * 60_000;
const OTHER_JOIN_RETRY_MS = 5_000;

/** How often a join begins anew because another one of the same user was quicker. */
const BEGUN_MAX = 3;

/** An event that was sent, or is about to be, and may be in the room. */
interface OpenJoin {
  readonly intent: JoinIntent;
  /** Who may have taken it, or has: asked first when it is finished or left. */
  resident: ServerName;
  /** `unsent`: nobody has been sent it, or is being sent it now. */
  fate: 'unsent' | 'unclear' | 'unusable';
  reason: string;
}

/** One join, once it is known whom to ask. */
interface Run {
  readonly roomId: RoomId;
  readonly userId: UserId;
  /** Some of us have been in it. */
  readonly isKnown: boolean;
  readonly omitMembers: boolean;
  readonly profile: JsonObject;
  readonly residents: readonly ServerName[];
  readonly timings: Timings;
  readonly signal: AbortSignal;
  /** Intents of the user that are claimed for this run. */
  readonly claimed: EventId[];
  /** The joins among them, the oldest first. */
  readonly open: OpenJoin[];
  readonly failures: Error[];
}

/** Of one join, where it is known whom to ask in which order. */
interface Asking extends Run {
  readonly templates: Templates;
}

/** @throws RoomError naming what every resident answered. */
export async function joinRoom(context: RoomsContext, request: JoinRequest): Promise<JoinedRoom> {
  const { userId } = request;
  if (domainOf(userId) !== context.serverName) {
    throw new RoomError('unknown-user', `${userId} is not a user of ${context.serverName}`);
  }
  const limit = AbortSignal.timeout(JOIN_MS_MAX);
  const signal = AbortSignal.any([request.signal, limit]);
  try {
    const found = await findRoom(context, { ...request, signal });
    for (let begun = 1; ; begun += 1) {
      const joined = await joinFound(context, { ...request, signal }, found, begun === BEGUN_MAX);
      if (joined !== undefined) return joined;
    }
  } catch (error) {
    if (!limit.aborted || request.signal.aborted) throw error;
    throw new RoomError('no-resident', `no resident could join us to ${request.room} in time`, { cause: error });
  }
}

/** The room that is meant, and servers that may be in it. */
export async function findRoom(
  context: RoomsContext,
  { room, signal }: Pick<JoinRequest, 'room' | 'signal'>,
): Promise<AliasedRoom> {
  const roomId = parseRoomId(room);
  if (roomId === undefined) return resolveAlias(context, room as RoomAlias, signal);
  const domain = domainOf(room);
  return { roomId, servers: domain === undefined ? [] : [domain] };
}

/** `undefined` when another join of the same user was quicker: its outcome is waited for, and looked at. */
async function joinFound(
  context: RoomsContext,
  { userId, via, omitMembers = true, profile = {}, signal }: JoinRequest,
  { roomId, servers }: AliasedRoom,
  isLast: boolean,
): Promise<JoinedRoom | undefined> {
  await comeBack(context, roomId, userId);
  const held = await joinedAlready(context, roomId, userId);
  if (held !== undefined) return held;
  const intents = await claimIntents(context, roomId, userId, signal);
  const open = intents.filter(({ what }) => what === 'join').map((intent) => asOpen(intent, 'unclear'));
  try {
    // Whoever was waited for may have joined the user.
    const joined = await joinedAlready(context, roomId, userId);
    if (joined !== undefined) return joined;
    // A join that may be out is settled with a resident, whatever we know.
    if (open.length === 0 && (await isKnownBanned(context.store, roomId, userId))) {
      throw new RoomError('forbidden', `${userId} is banned from ${roomId}`);
    }
    const room = await readRoom(context.store, roomId);
    // Whoever invited him knows the room, and lets him in for sure.
    const invited = await readOutside(context.store, roomId, userId);
    const known = [
      ...via,
      ...(invited === undefined ? [] : [invited.server]),
      ...servers,
      ...(room?.resync.candidates ?? []),
    ];
    const residents = [...new Set(known)].filter((server) => server !== context.serverName);
    const timings = new Timings(context.clock);
    const claimed = intents.map(({ eventId }) => eventId);
    const asked = { roomId, userId, isKnown: room !== undefined, omitMembers, profile, residents, timings, signal };
    return await askResidents(context, { ...asked, claimed, open, failures: [] });
  } catch (error) {
    if (error instanceof RoomError && error.kind === 'busy' && !isLast) return undefined;
    throw error;
  } finally {
    await settleOpen(context, open).catch((error: unknown) => {
      context.logger.error({ err: error, roomId, userId }, 'open joins could not be given back; their claims run out');
    });
    for (const intent of intents) if (intent.what !== 'join') await releaseIntent(context.store, intent);
  }
}

/**
 * By what is known of the room. While it is partial a join of an earlier stay, of which the end is not seen yet, may stand in its
 * state; then only who has joined in this stay is in.
 */
async function joinedAlready(context: RoomsContext, roomId: RoomId, userId: UserId): Promise<JoinedRoom | undefined> {
  const held = await readRoom(context.store, roomId);
  if (held === undefined || held.epoch === 0) return undefined;
  const members = await readLocalMembers(context.store, roomId);
  const ours = members.find((member) => member.userId === userId && member.membership === 'join');
  if (ours === undefined) return undefined;
  if (held.partial && !(await hasJoinedIn(context.store, roomId, held.epoch, userId))) return undefined;
  // Nobody had to be asked about a room that was made here.
  const joinedVia = held.joinedVia ?? context.serverName;
  return { roomId, eventId: ours.eventId, joinedVia, partial: held.partial, membersOmitted: false, timingsMs: {} };
}

/** Waits for another join of the same user, and for a leave that is being sent. @throws RoomError `busy` */
async function claimIntents(
  context: RoomsContext,
  roomId: RoomId,
  userId: UserId,
  signal: AbortSignal,
): Promise<readonly JoinIntent[]> {
  const patience = AbortSignal.any([signal, AbortSignal.timeout(OTHER_JOIN_MS_MAX)]);
  for (;;) {
    const intents = await claimJoinIntents(context.store, roomId, userId);
    if (intents !== undefined) return intents;
    // A join that fails says nothing in the journal, so there is nothing to listen for.
    await delay(OTHER_JOIN_POLL_MS, undefined, { signal: patience }).catch(() => undefined);
    signal.throwIfAborted();
    if (patience.aborted) break;
  }
  const options = { retryAfterMs: OTHER_JOIN_RETRY_MS };
  throw new RoomError('busy', `another join of ${userId} to ${roomId} is under way`, options);
}

function asOpen(intent: JoinIntent, fate: OpenJoin['fate']): OpenJoin {
  return { intent, resident: intent.resident, fate, reason: intent.lastReason ?? 'its answer was lost' };
}

async function askResidents(context: RoomsContext, run: Run): Promise<JoinedRoom> {
  const { roomId, open, failures } = run;
  const order = [...new Set([...open.map(({ resident }) => resident), ...run.residents])];
  if (order.length === 0) {
    throw new RoomError('unknown-room', `no server is known that could be asked about ${roomId}; name one with via`);
  }
  const { hedgeMs = HEDGE_MS } = context.policy;
  const templates = askForTemplates(order.slice(0, RESIDENTS_MAX), hedgeMs, async (resident, closing) => {
    const signal = AbortSignal.any([run.signal, closing]);
    if (run.isKnown) await tellFirst(context, roomId, resident, signal);
    return context.federation.makeJoin(resident, roomId, run.userId, ROOM_VERSIONS, { signal });
  });
  const asking = { ...run, templates };
  try {
    for (;;) {
      run.signal.throwIfAborted();
      const resident = await whomToAsk(asking);
      if (resident === undefined) break;
      const before = failures.length;
      const joined = (await repeatAt(context, run, resident)) ?? (await joinAt(context, asking, resident));
      if (joined !== 'next') return joined;
      const told = failures.slice(before).map(({ message }) => message);
      context.logger.warn({ roomId, resident, reasons: told }, 'a resident could not join us to the room');
    }
  } finally {
    templates.close();
  }
  const isUnclear = open.some(({ fate }) => fate === 'unclear') && open.every(({ fate }) => fate !== 'unusable');
  throw summarise(roomId, failures, isUnclear);
}

/** Who answers first; or where a join is out already, the next one in order, which need give no template. */
async function whomToAsk({ open, templates, timings }: Asking): Promise<ServerName | undefined> {
  return open.length > 0 ? templates.next() : timings.measure('make_join', () => templates.quickest());
}

/**
 * Sends a resident the event that is out already: its own first. `undefined`: there is none for it, or it is to have a join of
 * its own. That is so where it does not take the event, or says nothing clear of one that another made the template of: an
 * event over parents that nobody else knows must not stop the join everywhere.
 */
async function repeatAt(
  context: RoomsContext,
  run: Run,
  resident: ServerName,
): Promise<JoinedRoom | 'next' | undefined> {
  const own = run.open.find(({ intent }) => intent.resident === resident);
  const out = own ?? run.open.find(({ intent }) => isPortable(intent));
  if (out === undefined) return undefined;
  const sent = await send(context, run, out, resident);
  if (sent.outcome === 'joined') return sent.joined;
  return sent.outcome === 'refused' || (sent.outcome === 'unclear' && own === undefined) ? undefined : 'next';
}

/** Joins by a new event; one whose fate is unclear is sent again at once. */
async function joinAt(context: RoomsContext, run: Asking, resident: ServerName): Promise<JoinedRoom | 'next'> {
  const { roomId, userId, profile, timings, signal, templates } = run;
  const via = run.residents.slice(0, RESIDENTS_MAX);
  let intent: JoinIntent;
  try {
    const template = timings.measure('make_join', () => templates.of(resident));
    intent = await prepareJoin(context, { roomId, userId, profile, resident, template, via, mine: run.claimed });
  } catch (error) {
    const isTheirs = error instanceof FederationError || error instanceof RoomError;
    if (!isTheirs || error.kind === 'busy' || signal.aborted) throw error;
    run.failures.push(error);
    return 'next';
  }
  const fresh = asOpen(intent, 'unsent');
  run.claimed.push(intent.eventId);
  run.open.push(fresh);
  let sent = await send(context, run, fresh, fresh.resident);
  if (sent.outcome === 'unclear') sent = await send(context, run, fresh, fresh.resident, REPEAT_MS_MAX);
  return sent.outcome === 'joined' ? sent.joined : 'next';
}

/** Sends an open join, and notes what is known of it then. */
async function send(
  context: RoomsContext,
  run: Run,
  out: OpenJoin,
  resident: ServerName,
  limitMs?: number,
): Promise<SendOutcome> {
  const { omitMembers, signal, timings } = run;
  const options = { omitMembers, signal, timings, ...(limitMs === undefined ? {} : { limitMs }) };
  const sent = await sendJoin(context, out.intent, resident, options);
  if (sent.outcome === 'joined') {
    // The commit has settled them all.
    run.open.length = 0;
    return sent;
  }
  run.failures.push(sent.error);
  if (sent.outcome === 'unclear' || sent.outcome === 'unusable') {
    // Who has taken it for sure is the one to leave it at.
    if (out.fate !== 'unusable') Object.assign(out, { fate: sent.outcome, reason: sent.error.message });
    if (sent.outcome === 'unusable') out.resident = resident;
    return sent;
  }
  const isRefusedWhereItWas = sent.outcome === 'refused' && out.fate === 'unclear' && out.resident === resident;
  if (out.fate === 'unsent' || isRefusedWhereItWas) {
    await deleteJoinIntent(context.store, out.intent.eventId);
    run.open.splice(run.open.indexOf(out), 1);
  }
  return sent;
}

/** What was not joined is left again, or tried again later: not where the user has been told that he is not in. */
async function settleOpen(context: RoomsContext, open: readonly OpenJoin[]): Promise<void> {
  const isUnusable = open.some(({ fate }) => fate === 'unusable');
  for (const { intent, resident, reason } of open) {
    if (isUnusable) await intendToLeave(context, intent, resident, reason);
    else await postpone(context, intent, reason);
  }
}
