/** Custom search attributes must exist on the server before a workflow names one: an unknown name fails its task for ever. */
import { type Connection } from '@temporalio/client';
import { SEARCH_ATTRIBUTE_TYPES } from './names.ts';

/** temporal.api.enums.v1.IndexedValueType. */
const INDEXED_VALUE_TYPES = { Keyword: 2, Int: 3 } as const;

/** By name, the type that each must have. */
const TYPES = Object.entries(SEARCH_ATTRIBUTE_TYPES).map(([name, type]) => ({ name, type: INDEXED_VALUE_TYPES[type] }));

/** Names that the namespace lacks or holds with another type; empty when all is well. */
export async function missingSearchAttributes(connection: Connection, namespace: string): Promise<readonly string[]> {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  return TYPES.filter(({ name, type }) => Number(customAttributes[name]) !== type).map(({ name }) => name);
}

/** Registers what is missing. Safe to repeat and to run from several processes at once. */
export async function registerSearchAttributes(connection: Connection, namespace: string): Promise<void> {
  const missing = await missingSearchAttributes(connection, namespace);
  if (missing.length === 0) return;
  const lacking = TYPES.filter(({ name }) => missing.includes(name));
  const searchAttributes = Object.fromEntries(lacking.map(({ name, type }) => [name, type]));
  try {
    await connection.operatorService.addSearchAttributes({ namespace, searchAttributes });
  } catch (error) {
    // Another process may have been quicker; what counts is that they are there now.
    if ((await missingSearchAttributes(connection, namespace)).length > 0) throw error;
  }
}
