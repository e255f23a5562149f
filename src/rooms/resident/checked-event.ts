/** Checks 1 to 3 on one event that another server hands us by itself, and that it is what the server says it is. */
import { type EventId, type RoomId, type ServerName, domainOf } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type CheckedPdu } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { checkEvents } from '../judge/check-events.ts';
import { ResidentError } from '../resident-error.ts';

export interface HandedEvent {
  readonly roomId: RoomId;
  /** As the path names it. */
  readonly eventId: EventId;
  readonly server: ServerName;
  readonly raw: Uint8Array;
  readonly signal: AbortSignal;
}

/**
 * @param objectionTo why the event is not the one that was asked for
 * @throws ResidentError
 */
export async function checkHanded(
  context: Pick<RoomsContext, 'verification' | 'keyRing'>,
  rules: RoomVersionRules,
  { roomId, eventId, server, raw, signal }: HandedEvent,
  objectionTo: (pdu: CheckedPdu) => string | undefined,
): Promise<CheckedPdu> {
  const [outcome] = await checkEvents(context, { roomId, rules, events: [raw], asker: 'request', signal });
  if (outcome?.outcome === 'key-missing') {
    throw new ResidentError('busy', `the key ${outcome.keyId ?? ''} of ${outcome.serverName} cannot be had`);
  }
  if (outcome?.outcome === 'bad-signature') {
    throw new ResidentError('forbidden', `badly signed by ${outcome.serverName}: ${outcome.reason}`);
  }
  if (outcome?.outcome !== 'passed') {
    throw new ResidentError('malformed', outcome?.outcome === 'malformed' ? outcome.reason : 'that is no event');
  }
  const { pdu } = outcome;
  const wrong = pdu.hollow ? 'its content hash does not match' : objectionTo(pdu);
  if (wrong !== undefined) throw new ResidentError('malformed', wrong);
  if (domainOf(pdu.sender) !== server) throw new ResidentError('forbidden', `${pdu.sender} is no user of ${server}`);
  if (pdu.eventId !== eventId) throw new ResidentError('malformed', `the event is ${pdu.eventId}`);
  return pdu;
}
