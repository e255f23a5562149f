/**
 * What one transaction between servers may hold.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#transactions
 */

export const TRANSACTION_PDUS_MAX = 50;
export const TRANSACTION_EDUS_MAX = 100;
