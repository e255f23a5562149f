/**
 * Which servers may take part in a room: `m.federate` of m.room.create, and the domains it is compared by.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v11/#authorization-rules, rule 3.
 */
import { ownValue } from '../content.ts';
import { type Pdu } from '../pdu.ts';

/** Everything after the first colon; `undefined` without one. Takes any string: state keys are not parsed as user ids. */
export function domainPartOf(id: string): string | undefined {
  const colon = id.indexOf(':');
  return colon < 0 ? undefined : id.slice(colon + 1);
}

/** Whether servers other than the creator's may take part. Anything but true counts as false (as in Synapse). */
export function mayFederate(create: Pdu): boolean {
  return !Object.hasOwn(create.content, 'm.federate') || ownValue(create.content, 'm.federate') === true;
}
