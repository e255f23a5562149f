/** Custom search attributes must exist on the server before a workflow names one: an unknown name fails its task for ever. */
import { type Connection } from '@temporalio/client';
import { SEARCH_ATTRIBUTES } from './names.ts';

/** temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD. */
const KEYWORD = 2;

/** Names that the namespace lacks or holds with another type; empty when all is well. */
export async function missingSearchAttributes(connection: Connection, namespace: string): Promise<readonly string[]> {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  return Object.values(SEARCH_ATTRIBUTES).filter((name) => Number(customAttributes[name]) !== KEYWORD);
}

/** Registers what is missing. Safe to repeat and to run from several processes at once. */
export async function registerSearchAttributes(connection: Connection, namespace: string): Promise<void> {
  const missing = await missingSearchAttributes(connection, namespace);
  if (missing.length === 0) return;
  const searchAttributes = Object.fromEntries(missing.map((name) => [name, KEYWORD]));
  try {
    await connection.operatorService.addSearchAttributes({ namespace, searchAttributes });
  } catch (error) {
    // Another process may have been quicker; what counts is that they are there now.
    if ((await missingSearchAttributes(connection, namespace)).length > 0) throw error;
  }
}
