/** Entries of the journal as third parties get them: the vocabulary of src/resync/events.ts in JSON names. */
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { explainEntry } from '../resync/explain-entry.ts';
import { isoTime } from '../resync/explain.ts';
import { type Correction, type EventStory, type JournalPart, type Witness } from '../rooms/contract.ts';

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

/** An entry by which something is otherwise, with what the verdict before it rested on and what stands there in truth. */
export function correctionAnswer({ entry, turned }: Correction): JsonObject {
  const places = turned.map(({ was, is }) => ({ was: was && witnessAnswer(was), is: is && witnessAnswer(is) }));
  return { ...entryAnswer(entry), turned_out_otherwise: places };
}

function witnessAnswer({ eventId, type, stateKey, says }: Witness): JsonObject {
  return { event_id: eventId, type, state_key: stateKey, says };
}

/** What is known of one event, as data and in sentences. */
export function storyAnswer(story: EventStory): JsonObject {
  const { eventId, roomId, place, event, verdict, isProvisional, judgedBy, history, causes, lines } = story;
  return {
    event_id: eventId,
    room_id: roomId,
    place,
    verdict,
    provisional: isProvisional,
    event:
      event === null
        ? null
        : {
            type: event.type,
            state_key: event.stateKey,
            sender: event.sender,
            membership: event.membership,
            prev_events: event.prevEvents,
            auth_events: event.authEvents,
          },
    judged_by: judgedBy.map(witnessAnswer),
    history: history.map(correctionAnswer),
    causes: causes.map(correctionAnswer),
    story: lines,
  };
}
