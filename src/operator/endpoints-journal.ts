/**
 * What was decided, for third parties and people: the journal of all rooms in pages or as server-sent events, the corrections
 * of a room, and the story of one event.
 */
import { EventStream, eventFrame, idFrame } from '../http/event-stream.ts';
import { type JournalFollower, type JournalPart } from '../rooms/contract.ts';
import * as forms from './answer-forms.ts';
import { type OperatorEndpoint, roomOf } from './endpoints.ts';
import { correctionAnswer, entryAnswer, storyAnswer } from './journal-answers.ts';
import {
  correctionsQuery,
  journalQuery,
  parseCorrectionsQuery,
  parseEventParameter,
  parseJournalFollowQuery,
  parseJournalPageQuery,
} from './requests.ts';

export const JOURNAL_ENDPOINTS: readonly OperatorEndpoint[] = [
  {
    method: 'GET',
    path: '/_rejoinder/v1/journal',
    summary:
      'What was decided about all rooms, in pages; with "Accept: text/event-stream" as server-sent events without end.',
    query: journalQuery,
    answers: forms.journalAnswer,
    answer: async ({ query, headers, signal }, { ports: { journal } }) => {
      if (headers.accept?.includes('text/event-stream') === true) {
        const lastEventId = headers['last-event-id'];
        const follow = parseJournalFollowQuery(query, typeof lastEventId === 'string' ? lastEventId : undefined);
        return eventsOf(await journal.follow(follow, signal));
      }
      const { entries, next, head } = await journal.page(parseJournalPageQuery(query));
      return { entries: entries.map(entryAnswer), next, head };
    },
  },
  {
    method: 'GET',
    path: '/_rejoinder/v1/rooms/:room/corrections',
    summary: 'What turned out otherwise in a room than it had been judged.',
    query: correctionsQuery,
    answers: forms.correctionsAnswer,
    answer: async (request, { ports }) => {
      const query = parseCorrectionsQuery(request.query);
      const roomId = await roomOf(request, ports);
      const { corrections, next, head } = await ports.corrections(roomId, query);
      return { room_id: roomId, corrections: corrections.map(correctionAnswer), next, head };
    },
  },
  {
    method: 'GET',
    path: '/_rejoinder/v1/events/:event',
    summary: 'The story of one event.',
    answers: forms.storyAnswer,
    answer: async ({ params }, { ports }) =>
      storyAnswer(await ports.explainEvent(parseEventParameter(params['event'] ?? ''))),
  },
];

type Entry = JournalPart['entries'][number];

/** Those who follow at once are told of the same entry, which is written once for all of them. */
const written = new WeakMap<Entry, string>();

function frameOf(entry: Entry): string {
  const known = written.get(entry);
  if (known !== undefined) return known;
  const frame = eventFrame(entry.position, entryAnswer(entry));
  written.set(entry, frame);
  return frame;
}

function eventsOf(follower: JournalFollower): EventStream {
  async function* frames(): AsyncGenerator<string> {
    for await (const { entries, next } of follower.parts) {
      const isLast = entries.at(-1)?.position === next;
      yield entries.map(frameOf).join('') + (isLast ? '' : idFrame(next));
    }
  }
  return new EventStream(frames(), () => follower.cut());
}
