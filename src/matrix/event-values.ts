/** Checks on the values inside an event, whatever its fields: nesting, and the numbers of strict canonical JSON. */
import { NUMBER_SPELLINGS, type SpelledNumbers } from './json/json-numbers.ts';
import { type Json, type JsonObject } from './pdu.ts';
import { type Refusal, refuse } from './refusal.ts';

/**
 * The deepest nesting that the reference implementation takes (its parser stops at 128). The spec names no limit; an
 * event that some servers cannot read would split a room, so the limit is theirs.
 */
export const EVENT_DEPTH_MAX = 127;

/**
 * Looks at every value but `unsigned`, which no hash covers and which is thrown away on receipt. With `strictNumbers`,
 * numbers must be integers within ±(2⁵³ − 1), written as such: https://spec.matrix.org/v1.16/rooms/v6/#canonical-json
 */
export function checkEventValues(event: JsonObject, strictNumbers: boolean): Refusal | undefined {
  const containers: (JsonObject | readonly Json[])[] = [];
  const depths: number[] = [];
  const visit = (value: Json, depth: number): boolean => {
    if (typeof value === 'number') return !strictNumbers || Number.isSafeInteger(value);
    if (typeof value === 'object' && value !== null) {
      containers.push(value);
      depths.push(depth);
    }
    return true;
  };

  if (strictNumbers && hasSpellings(event, 'unsigned')) return oddNumber();
  for (const key in event) if (key !== 'unsigned' && !visit(event[key] as Json, 2)) return oddNumber();
  for (let container = containers.pop(); container !== undefined; container = containers.pop()) {
    const depth = depths.pop() as number;
    if (depth > EVENT_DEPTH_MAX) return refuse('event.nesting', `nested deeper than ${EVENT_DEPTH_MAX}`);
    if (strictNumbers && hasSpellings(container, undefined)) return oddNumber();
    if (Array.isArray(container)) {
      for (const item of container as readonly Json[]) if (!visit(item, depth + 1)) return oddNumber();
    } else {
      const object = container as JsonObject;
      for (const key in object) if (!visit(object[key] as Json, depth + 1)) return oddNumber();
    }
  }
  return undefined;
}

function oddNumber(): Refusal {
  return refuse('event.number', 'a number is not an integer within ±(2^53 - 1), written as one');
}

function hasSpellings(container: object, except: string | undefined): boolean {
  const spellings = (container as SpelledNumbers)[NUMBER_SPELLINGS];
  if (spellings === undefined) return false;
  return except === undefined || spellings.size > (spellings.has(except) ? 1 : 0);
}
