/** Whether a user is there, as clients are told it: https://spec.matrix.org/v1.16/client-server-api/#mpresence */
import { type JsonObject } from '../pdu.ts';

export interface ToldPresence {
  readonly presence: 'online' | 'offline' | 'unavailable';
  readonly statusMsg: string | null;
  /** Milliseconds since the Unix epoch; null: not known. */
  readonly lastActiveAt: number | null;
  readonly isCurrentlyActive: boolean;
}

/** @param now milliseconds since the Unix epoch */
export function presenceContent(
  { presence, statusMsg, lastActiveAt, isCurrentlyActive }: ToldPresence,
  now: number,
): JsonObject {
  return {
    presence,
    ...(statusMsg === null ? {} : { status_msg: statusMsg }),
    ...(lastActiveAt === null ? {} : { last_active_ago: Math.max(0, now - lastActiveAt) }),
    currently_active: isCurrentlyActive,
  };
}
