/** What is sent to a server next, and when, decided from what it is owed and how it has answered. Pure. */
import { type ServerName } from '../matrix/identifiers.ts';

/** PDUs of a transaction: https://spec.matrix.org/v1.16/server-server-api/#transactions */
export const PDUS_MAX = 50;
export const EDUS_MAX = 100;
/** Of all EDUs of a transaction: fewer than of its events. */
export const EDU_BYTES_MAX = 2 * 1024 * 1024;
/** Longer than a transaction takes, before each of which it is renewed; what a killed process had waits so long. */
export const DELIVERY_LEASE_MS = 2 * 60_000;
/** The same of sharing out what was said in a room. */
export const ROOM_LEASE_MS = 60_000;
/** A server that was out of reach gets of each room the newest event alone, where it is owed more than one transaction. */
const PAUSE_FIRST_MS = 2_000;
const PAUSE_LONGEST_MS = 3_600_000;

/** A server that takes what it is sent, or has not for a while. */
export interface Standing {
  readonly serverName: ServerName;
  /** Transactions in a row that it did not take. */
  readonly failures: number;
  readonly failedSince: number | null;
}

/** `all`: the next events in their order; `newest`: those of each room that say where it stands now, so that it can ask for the rest. */
export type NextDelivery = 'all' | 'newest';

/** @param owed events that it is owed, counted up to one more than a transaction holds */
export function nextDelivery({ failedSince }: Standing, owed: number): NextDelivery {
  return failedSince !== null && owed > PDUS_MAX ? 'newest' : 'all';
}

/** How long a server is left alone after one more failure. `random`: in [0, 1). */
export function pauseAfter(failures: number, random: number): number {
  return Math.min(PAUSE_FIRST_MS * 2 ** Math.min(failures, 20), PAUSE_LONGEST_MS) * (1 + random / 5);
}

/**
 * Whether a server that answered so will never take the transaction, so that sending it again is in vain. Some proxies answer 404
 * for a server that is down, and 401 may be for a key of ours that it could not get.
 */
export function isRefusedForGood(status: number | undefined): boolean {
  return status !== undefined && status >= 400 && status < 500 && ![401, 404, 408, 425, 429].includes(status);
}
