import { expect, test } from 'vitest';
import { type Said } from '../../src/cli/demo/talk.ts';
import { createRoomWatch } from '../../src/cli/demo/watch-room.ts';
import { type EventId } from '../../src/matrix/identifiers.ts';

const at = (seconds: number): string => new Date(seconds * 1_000).toISOString();
const entry = (seq: number, type: string, seconds: number) => ({ seq, at: at(seconds), type, explanation: `${type}.` });
const verdict = (position: number, eventId: string, is: string, seconds: number) => ({
  position,
  room_id: '!r:a',
  epoch: 1,
  recorded_at: at(seconds),
  type: 'EventUnPartialStated',
  explanation: 'it is otherwise',
  data: { event_id: eventId, was: is === 'accepted' ? 'rejected' : 'accepted', is },
  turned_out_otherwise: [],
});

test('a room is looked at again and again, and each step and each corrected verdict is news once, in order', async () => {
  const description = { attempts: 1, fetched: null, progress: null, staged_events: 2, corrected: 0 };
  let journal = [entry(1, 'PartialStateJoined', 1), entry(2, 'StateFetchStarted', 2)];
  let corrections: object[] = [];
  const asked: string[] = [];
  const client = {
    ask: (path: string) => {
      asked.push(path);
      const body = path.includes('/corrections')
        ? { room_id: '!r:a', corrections, next: 40, head: 40 }
        : { ...description, corrected: corrections.length, journal };
      return Promise.resolve({ status: 200, body, text: '' });
    },
  };
  const said: Said[] = [{ eventId: '$said' as EventId, what: 'a message of @bob:a' }];
  const watch = createRoomWatch(client, '/rooms/r');
  expect(await watch.staged()).toBe(2);
  const newsOf = async () => (await watch.look(said)).news.map(({ name, detail }) => `${name}: ${detail}`);
  expect(await newsOf()).toEqual(['state-asked: StateFetchStarted.']);
  expect(await newsOf()).toEqual([]);
  expect(asked.some((path) => path.includes('corrections'))).toBe(false);

  journal = [...journal, entry(3, 'EventsWalked', 3), entry(4, 'ResyncCompleted', 5)];
  const states = { ...verdict(7, '$states', 'accepted', 4), type: 'AnchorCorrected', data: { at: at(4) } };
  corrections = [verdict(5, '$said', 'rejected', 4), verdict(6, '$other', 'accepted', 4), states];
  expect(await newsOf()).toEqual([
    'join-event-full: EventsWalked.',
    'verdict-corrected: accepted before, rejected now: a message of @bob:a',
    'verdict-corrected: rejected before, accepted now: $other',
    'resync-done: ResyncCompleted.',
  ]);
  expect(watch.corrections.map(({ event_id: eventId, is }) => [eventId, is])).toEqual([
    ['$said', 'rejected'],
    ['$other', 'accepted'],
  ]);
  expect(await newsOf()).toEqual([]);

  corrections = [...corrections, verdict(41, '$late', 'rejected', 6)];
  await newsOf();
  expect(asked.at(-1)).toBe('/rooms/r/corrections?from=40');
});
