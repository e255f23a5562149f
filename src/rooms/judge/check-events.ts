/** Checks 1 to 3 on events as they came from another server, in the verification pool with this server's key ring. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type CheckOutcome, type CheckedPdu, type KeyAsker, type KeyResolver } from '../../verification/contract.ts';
import { type CheckInput } from '../../verification/pool.ts';
import { type RoomsContext } from '../context.ts';

export interface EventsToCheck extends Pick<CheckInput, 'capReferences' | 'isHeld' | 'signal'> {
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  /** One JSON text each, as received. */
  readonly events: readonly Uint8Array[];
  /** Of the keys; what is fetched for the room unless it says otherwise. */
  readonly asker?: KeyAsker;
}

/** One outcome for each event, in their order; rejects on abort only, and for faults of ours. */
export async function checkEvents(
  { verification, keyRing }: Pick<RoomsContext, 'verification' | 'keyRing'>,
  { rules, asker, ...input }: EventsToCheck,
): Promise<readonly CheckOutcome[]> {
  const resolveKeys: KeyResolver = (requests, signal) => keyRing.resolve(requests, signal, asker ?? input.roomId);
  return verification.check({ ...input, roomVersion: rules.version, resolveKeys });
}

/** The events that passed, in their order. */
export function passed(outcomes: readonly CheckOutcome[]): CheckedPdu[] {
  return outcomes.flatMap((outcome) => (outcome.outcome === 'passed' ? [outcome.pdu] : []));
}
