/**
 * An identity server tells us that a user of ours has bound an identifier, and who had invited it: the residents who sent these invites are
 * asked for real ones. Anybody may say so; whether it is true they see from what the identity server has signed, and nothing is kept here.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#put_matrixfederationv13pidonbind
 */
import { FederationError } from '../../federation/error.ts';
import { domainOf } from '../../matrix/identifiers.ts';
import { readUser } from '../../store/tables/users.ts';
import { UnderWay } from '../../under-way.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { ResidentError } from '../resident-error.ts';
import { type BoundIdentifier, type ThirdPartyInvite } from './contract.ts';
import { exchangeInvite } from './exchange-invite.ts';

/** Of all invites of one notice. */
const NOTICE_MS_MAX = 60_000;
/** Notices at a time, in all and of one sender: each has servers asked that a stranger names, who may answer as slowly as they like. */
const NOTICES_MAX = 16;
const OF_SENDER_MAX = 2;

/** Of one process. Failures of single invites are logged: who told us can do nothing about them. @throws ResidentError */
export function createBindings(context: RoomsContext): (bound: BoundIdentifier) => Promise<void> {
  const ofAll = new UnderWay(NOTICES_MAX);
  const ofSenders = new UnderWay(OF_SENDER_MAX);
  const refusal = (): ResidentError => new ResidentError('busy', 'too many such notices at a time');
  return (bound) =>
    ofSenders.run(bound.sentFrom, () => ofAll.run('', () => exchangeAll(context, bound), refusal), refusal);
}

async function exchangeAll(context: RoomsContext, { userId, invites, signal }: BoundIdentifier): Promise<void> {
  const { store, serverName, logger } = context;
  const user = domainOf(userId) === serverName ? await readUser(store, userId) : undefined;
  if (user === undefined || user.deactivatedAt !== null) {
    throw new ResidentError('forbidden', 'that is no user of this server');
  }
  const late = AbortSignal.any([signal, AbortSignal.timeout(NOTICE_MS_MAX)]);
  const isLate = (): boolean => late.aborted;
  for (const invite of invites) {
    if (isLate()) break;
    try {
      await exchange(context, { ...invite, userId, signal: late });
    } catch (error) {
      const isTheirs = error instanceof FederationError || error instanceof ResidentError || error instanceof RoomError;
      if (!isTheirs && !isLate()) throw error;
      const { roomId, sender } = invite;
      logger.info({ err: error, roomId, sender, userId }, 'an invite by a third-party identifier came to nothing');
    }
  }
  signal.throwIfAborted();
}

async function exchange(context: RoomsContext, invite: ThirdPartyInvite): Promise<void> {
  const { serverName, federation } = context;
  const { roomId, sender, userId, signed, signal } = invite;
  if (domainOf(sender) === serverName) return exchangeInvite(context, invite);
  const content = { membership: 'invite', third_party_invite: { display_name: '', signed } };
  const event = { type: 'm.room.member', room_id: roomId, sender, state_key: userId, content };
  return federation.exchangeThirdPartyInvite(domainOf(sender), roomId, event, { signal });
}
