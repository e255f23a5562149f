/** One short name for a room state, by which two who worked it out apart compare. */
import { createHash } from 'node:crypto';
import { type EventId } from './identifiers.ts';

/** SHA-256, in hexadecimal, of the ids of a state's events: each once, sorted by UTF-16 unit, joined by newlines. */
export function stateDigest(eventIds: Iterable<EventId>): string {
  const digest = startStateDigest();
  digest.add([...eventIds]);
  return digest.finish();
}

/** As `stateDigest`, of ids that are added in parts: each comes before those of the parts after its own. */
export interface StateDigest {
  add(part: readonly EventId[]): void;
  finish(): string;
}

/** Of no events yet. */
export function startStateDigest(): StateDigest {
  const hash = createHash('sha256');
  let isEmpty = true;
  return {
    add(part) {
      if (part.length === 0) return;
      hash.update(`${isEmpty ? '' : '\n'}${part.toSorted().join('\n')}`);
      isEmpty = false;
    },
    finish: () => hash.digest('hex'),
  };
}
