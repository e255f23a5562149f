/** Custom search attributes must exist on the server before a workflow names one: an unknown name fails its task for ever. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Connection } from '@temporalio/client';
import { SEARCH_ATTRIBUTE_TYPES } from './names.ts';
import { isNotFound } from './namespace.ts';

/** temporal.api.enums.v1.IndexedValueType. */
const INDEXED_VALUE_TYPES = { Keyword: 2, Int: 3, Datetime: 6 } as const;

/** By name, the type that each must have. */
const TYPES = Object.entries(SEARCH_ATTRIBUTE_TYPES).map(([name, type]) => ({ name, type: INDEXED_VALUE_TYPES[type] }));

/** Names that the namespace lacks or holds with another type; empty when all is well. */
export async function missingSearchAttributes(connection: Connection, namespace: string): Promise<readonly string[]> {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  return TYPES.filter(({ name, type }) => Number(customAttributes[name]) !== type).map(({ name }) => name);
}

/** How a person makes them: the server may keep us from it. */
export function searchAttributesByHand(namespace: string): string {
  const each = Object.entries(SEARCH_ATTRIBUTE_TYPES).map(([name, type]) => `--name ${name} --type ${type}`);
  return `temporal operator search-attribute create --namespace ${namespace} ${each.join(' ')}`;
}

/** The server's parts hear of a new namespace one after the other, some after ten seconds. */
const NAMESPACE_KNOWN_MS_MAX = 30_000;
const POLL_MS = 250;

/** Registers what is missing. Safe to repeat and to run from several processes at once. */
export async function registerSearchAttributes(connection: Connection, namespace: string): Promise<void> {
  const missing = await onceKnown(() => missingSearchAttributes(connection, namespace));
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

/** What `ask` gives, once the server knows the namespace, which is there. */
async function onceKnown<T>(ask: () => Promise<T>): Promise<T> {
  for (let waitedMs = 0; ; waitedMs += POLL_MS) {
    try {
      return await ask();
    } catch (error) {
      if (!isNotFound(error) || waitedMs >= NAMESPACE_KNOWN_MS_MAX) throw error;
      await delay(POLL_MS);
    }
  }
}
