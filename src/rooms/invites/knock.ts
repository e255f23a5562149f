/**
 * Knocks at a room: where somebody of ours is in it the knock is said as any event; else a resident takes it, and what it tells of the room
 * is kept with it (send-knock.ts).
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#knocking-upon-a-room
 */
import { FederationError, isRefusal, oneLine } from '../../federation/error.ts';
import { buildKnockEvent, readKnockTemplate } from '../../federation/join-template.ts';
import { sealEvent } from '../../matrix/compose.ts';
import { parsePdu } from '../../matrix/event-format.ts';
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { ROOM_VERSIONS, roomVersionRules } from '../../matrix/room-versions.ts';
import { isAnybodyIn } from '../../store/journal/rooms.ts';
import { type JoinIntent, deleteJoinIntent, recordJoinIntent, releaseIntent } from '../../store/tables/intents.ts';
import { type ClientJoin } from '../client-contract.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { findRoom } from '../join/join.ts';
import { summarise } from '../join/summarise.ts';
import { sendEvent } from '../send/send-event.ts';
import { sendKnock } from './send-knock.ts';

const RESIDENTS_MAX = 10;
const KNOCK_MS_MAX = 2 * 60_000;
/** Of what one resident is sent. */
const SEND_MS_MAX = 60_000;

/** @throws RoomError as a join does */
export async function knock(context: RoomsContext, request: ClientJoin): Promise<RoomId> {
  const { userId, via, profile } = request;
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(KNOCK_MS_MAX)]);
  const { roomId, servers } = await findRoom(context, { ...request, signal });
  if (await isAnybodyIn(context.store, roomId)) {
    const content = { ...profile, membership: 'knock' };
    await sendEvent(context, roomId, { sender: userId, type: 'm.room.member', stateKey: userId, content });
    return roomId;
  }
  const residents = [...new Set([...via, ...servers])].filter((server) => server !== context.serverName);
  if (residents.length === 0) {
    throw new RoomError('unknown-room', `no server is known that could be asked about ${roomId}; name one with via`);
  }
  const failures: Error[] = [];
  for (const resident of residents.slice(0, RESIDENTS_MAX)) {
    try {
      await knockAt(context, request, roomId, resident, signal);
      return roomId;
    } catch (error) {
      if (signal.aborted || !(error instanceof FederationError || error instanceof RoomError)) throw error;
      failures.push(error);
    }
  }
  throw summarise(roomId, failures, false);
}

async function knockAt(
  context: RoomsContext,
  { userId, profile }: ClientJoin,
  roomId: RoomId,
  resident: ServerName,
  signal: AbortSignal,
): Promise<void> {
  const { federation, clock, random, serverName, signingKey, store } = context;
  const versions = ROOM_VERSIONS.filter((version) => roomVersionRules(version)?.knocking === true);
  const answer = await federation.makeKnock(resident, roomId, userId, versions, { signal });
  const reading = readKnockTemplate(answer, versions, { roomId, userId });
  if (!reading.ok) throw new RoomError('unusable-answer', `${resident} gave an unusable template: ${reading.rule}`);
  const { template } = reading;
  const createdAt = clock.now();
  const unsigned = buildKnockEvent(template, { roomId, userId, originServerTs: createdAt, random, profile });
  const { eventId, event } = sealEvent(unsigned, template.rules, serverName, signingKey);
  const parsed = parsePdu(event, template.rules);
  if (!parsed.ok) throw new RoomError('unusable-answer', `${resident}'s template makes no valid event`);
  const intent: JoinIntent = {
    ...{ what: 'knock', roomId, userId, eventId, event, roomVersion: template.rules.version, resident, via: [] },
    ...{ createdAt, attempts: 0, notBefore: createdAt + KNOCK_MS_MAX, lastReason: null },
  };
  if (!(await recordJoinIntent(store, intent))) {
    throw new RoomError('busy', `another knock or join of ${userId} to ${roomId} is under way`);
  }
  try {
    // Who asked may go away: what is sent may be taken, and its answer is waited for all the same.
    await sendKnock(context, intent, AbortSignal.timeout(SEND_MS_MAX));
  } catch (error) {
    const isRefused = error instanceof FederationError && (isRefusal(error) || error.kind === 'rate-limited');
    if (isRefused) {
      await deleteJoinIntent(store, eventId);
    } else {
      await releaseIntent(store, intent, { lastReason: oneLine(error instanceof Error ? error.message : 'it failed') });
    }
    throw error instanceof FederationError || error instanceof RoomError
      ? error
      : new RoomError('no-resident', `${resident} did not answer the knock; it is tried again`, { cause: error });
  }
}
