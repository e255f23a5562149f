/**
 * What one transaction between servers may hold.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#transactions
 */

export const TRANSACTION_PDUS_MAX = 50;
export const TRANSACTION_EDUS_MAX = 100;

/** EDUs that mean something here: https://spec.matrix.org/v1.16/server-server-api/#edus */
export const EDU_TYPES = [
  'm.direct_to_device',
  'm.device_list_update',
  'm.signing_key_update',
  'm.typing',
  'm.receipt',
  'm.presence',
] as const;

export type EduType = (typeof EDU_TYPES)[number];
