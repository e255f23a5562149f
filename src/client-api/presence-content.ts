/** Whether a user is there, as clients are told: https://spec.matrix.org/v1.16/client-server-api/#mpresence */
import { type Presence } from '../edus/contract.ts';
import { type JsonObject } from '../matrix/pdu.ts';

/** @param now milliseconds since the Unix epoch */
export function presenceContent(
  { presence, statusMsg, lastActiveAt, isCurrentlyActive }: Omit<Presence, 'userId'>,
  now: number,
): JsonObject {
  return {
    presence,
    ...(statusMsg === null ? {} : { status_msg: statusMsg }),
    ...(lastActiveAt === null ? {} : { last_active_ago: Math.max(0, now - lastActiveAt) }),
    currently_active: isCurrentlyActive,
  };
}
