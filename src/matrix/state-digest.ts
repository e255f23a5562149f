/** One short name for a room state, by which two who worked it out apart compare. */
import { createHash } from 'node:crypto';
import { type EventId } from './identifiers.ts';

/** SHA-256, in hexadecimal, of the ids of a state's events: each once, sorted by UTF-16 unit, joined by newlines. */
export function stateDigest(eventIds: Iterable<EventId>): string {
  return createHash('sha256')
    .update([...eventIds].sort().join('\n'))
    .digest('hex');
}
