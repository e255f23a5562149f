/** Types of columns that drizzle has no word for. */
import { bigint, customType } from 'drizzle-orm/pg-core';

/** Numeric ids and positions; exact in JavaScript below 2^53, which `open-store.ts` asserts on reading. */
export const int8 = () => bigint({ mode: 'number' });

/** 16 bytes in the database, 32 hex digits outside: the id of a snapshot or the hash of a chunk. */
export const hash16 = customType<{ data: string; driverData: Buffer }>({
  dataType: () => 'bytea',
  toDriver: (hex) => Buffer.from(hex, 'hex'),
  fromDriver: (bytes) => bytes.toString('hex'),
});

/** Written and read by SQL alone. */
export const tsvector = customType<{ data: string }>({ dataType: () => 'tsvector' });

export const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' });
