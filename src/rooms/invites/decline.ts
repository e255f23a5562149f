/**
 * Declines an invite to a room that we are not in, or takes a knock back: the user is out of it at once, and the server that invited him is
 * told, by make_leave and send_leave. Where it cannot be, the background goes on telling it (src/rooms/join/finish-joins.ts).
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#leaving-rooms-rejecting-invites
 */
import { FederationError, isRefusal, oneLine } from '../../federation/error.ts';
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import {
  type JoinIntent,
  deleteJoinIntent,
  deleteKnockIntents,
  readJoinIntents,
  recordJoinIntent,
  releaseIntent,
} from '../../store/tables/intents.ts';
import { type Sql } from '../../store/open-store.ts';
import { type OutsideMembership, endOutside, readOutside } from '../../store/tables/outside-memberships.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { leaveThrough } from '../join/leave-again.ts';

/** The user waits for it. */
const TELLING_MS_MAX = 10_000;
const RETRY_MS = 60_000;

/** `false`: there is nothing to decline. */
export async function decline(context: RoomsContext, roomId: RoomId, userId: UserId): Promise<boolean> {
  const { store, clock, logger } = context;
  const held = await readOutside(store, roomId, userId);
  const outside = held === undefined || held.membership === 'leave' ? await unclearKnock(store, roomId, userId) : held;
  if (outside === undefined) return held !== undefined;
  const { eventId, event, roomVersion, server: resident } = outside;
  const createdAt = clock.now();
  const notBefore = createdAt + RETRY_MS;
  const intent: JoinIntent = {
    ...{ what: 'leave', roomId, userId, eventId, event, roomVersion, resident, via: [], createdAt },
    ...{ attempts: 0, notBefore, lastReason: null },
  };
  // Recorded first: a process that is killed over it leaves it to the background. What may have knocked for him is not to do so again.
  const isMine = await store.inTransaction(async (tx) => {
    await deleteKnockIntents(tx, roomId, userId);
    const isRecorded = await recordJoinIntent(tx, intent);
    await endOutside(tx, { roomId, userId, eventId });
    return isRecorded;
  });
  if (!isMine) return true;
  try {
    await leaveThrough(context, intent, resident, AbortSignal.timeout(TELLING_MS_MAX));
  } catch (error) {
    if (!(error instanceof FederationError && isRefusal(error) && error.kind === 'forbidden')) {
      const isKnown = error instanceof FederationError || error instanceof RoomError;
      logger.info({ err: error, roomId, userId, resident, isKnown }, 'an invite that was declined is told later');
      const lastReason = oneLine(error instanceof Error ? error.message : 'it took too long');
      return releaseIntent(store, intent, { lastReason }).then(() => true);
    }
  }
  await deleteJoinIntent(store, eventId);
  return true;
}

type Declined = Pick<OutsideMembership, 'eventId' | 'roomVersion' | 'server'> & { readonly event: JsonObject };

/** A knock whose answer has not come: it may have been taken. */
async function unclearKnock(store: Sql, roomId: RoomId, userId: UserId): Promise<Declined | undefined> {
  const knock = (await readJoinIntents(store, roomId, userId)).findLast(({ what }) => what === 'knock');
  return knock && { ...knock, server: knock.resident };
}
