/** Leaves a room of which a resident took our join and we could not: make_leave and send_leave, at whoever answers. */
import { FederationError, isRefusal } from '../../federation/error.ts';
import { buildLeaveEvent, readLeaveTemplate } from '../../federation/join-template.ts';
import { sealEvent } from '../../matrix/compose.ts';
import { parsePdu } from '../../matrix/event-format.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { type JoinIntent } from '../../store/tables/intents.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';

/**
 * Resolves when the user is out of the room: a resident took the leave, or the one that had taken the join says that there is
 * nothing to leave. What is sent is another event each time; of two leaves the second is refused, which is as good.
 *
 * @throws FederationError, RoomError: the reason of the last server that was asked
 */
export async function leaveAgain(context: RoomsContext, intent: JoinIntent, signal: AbortSignal): Promise<void> {
  let failure: unknown;
  for (const resident of new Set([intent.resident, ...intent.via])) {
    try {
      await leaveThrough(context, intent, resident, signal);
      return;
    } catch (error) {
      if (signal.aborted || !(error instanceof FederationError || error instanceof RoomError)) throw error;
      if (isOut(error) && resident === intent.resident) return;
      failure = error;
    }
  }
  throw failure;
}

/** One try at one resident. @throws FederationError, RoomError */
export async function leaveThrough(
  context: RoomsContext,
  { roomId, userId, roomVersion }: Pick<JoinIntent, 'roomId' | 'userId' | 'roomVersion'>,
  resident: ServerName,
  signal: AbortSignal,
): Promise<void> {
  const answer = await context.federation.makeLeave(resident, roomId, userId, { signal });
  const reading = readLeaveTemplate(answer.event, roomVersion, { roomId, userId });
  if (!reading.ok) throw new RoomError('unusable-answer', `${resident} gave an unusable template: ${reading.rule}`);
  const { template } = reading;
  const originServerTs = context.clock.now();
  const unsigned = buildLeaveEvent(template, { roomId, userId, originServerTs, random: context.random });
  const { eventId, event } = sealEvent(unsigned, template.rules, context.serverName, context.signingKey);
  const parsed = parsePdu(event, template.rules);
  if (!parsed.ok) throw new RoomError('unusable-answer', `${resident}'s template makes no valid event`);
  await context.federation.sendLeave(resident, roomId, eventId, event, { signal });
}

/** Who is not in a room, or banned from it, may not leave it. */
function isOut(error: FederationError | RoomError): boolean {
  return error instanceof FederationError && error.kind === 'forbidden' && isRefusal(error);
}
