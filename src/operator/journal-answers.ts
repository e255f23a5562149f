/** Entries of the journal as third parties get them: the vocabulary of src/resync/events.ts in JSON names. */
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { explainEntry } from '../resync/explain-entry.ts';
import { isoTime } from '../resync/explain.ts';
import { type JournalPart } from '../rooms/contract.ts';

/** One entry, with what was decided as a sentence and as data. */
export function entryAnswer({
  position,
  roomId,
  epoch,
  recordedAt,
  event,
}: JournalPart['entries'][number]): JsonObject {
  const { type, ...data } = event;
  return {
    position,
    room_id: roomId,
    epoch,
    recorded_at: isoTime(recordedAt),
    type,
    explanation: explainEntry(event),
    data: inJsonNames(data as JsonObject),
  };
}

const inSnakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** All names are the vocabulary's own, never a stranger's. A number called `at`, or `…At`, is a time: as ISO 8601. */
function inJsonNames(value: Json): Json {
  if (Array.isArray(value)) return value.map(inJsonNames);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      inSnakeCase(name),
      typeof member === 'number' && /^at$|At$/.test(name) ? isoTime(member) : inJsonNames(member),
    ]),
  );
}
