import { expect, test } from 'vitest';
import { mergeReceipts } from '../../src/sending/merge-receipts.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';

const receipt = (room: string, user: string, event: string, thread?: string): JsonObject => ({
  edu_type: 'm.receipt',
  content: {
    [room]: {
      'm.read': {
        [user]: { data: { ts: 1, ...(thread === undefined ? {} : { thread_id: thread }) }, event_ids: [event] },
      },
    },
  },
});
const TYPING: JsonObject = { edu_type: 'm.typing', content: { room_id: '!a:x', user_id: '@u:x', typing: true } };

test('receipts of users and rooms travel in one EDU, and others stay as they are', () => {
  const merged = mergeReceipts([
    receipt('!a:x', '@u:x', '$1'),
    TYPING,
    receipt('!a:x', '@v:x', '$2'),
    receipt('!b:x', '@u:x', '$3'),
  ]);
  expect(merged).toEqual([
    TYPING,
    {
      edu_type: 'm.receipt',
      content: {
        '!a:x': {
          'm.read': { '@u:x': { data: { ts: 1 }, event_ids: ['$1'] }, '@v:x': { data: { ts: 1 }, event_ids: ['$2'] } },
        },
        '!b:x': { 'm.read': { '@u:x': { data: { ts: 1 }, event_ids: ['$3'] } } },
      },
    },
  ]);
});

test('a user has as many EDUs as receipts in one room, of different threads', () => {
  const threads = ['main', '$t1', '$t2'].map((thread) => receipt('!a:x', '@u:x', '$1', thread));
  expect(mergeReceipts([...threads, receipt('!a:x', '@v:x', '$9')])).toHaveLength(3);
  expect(mergeReceipts(threads)).toEqual(threads);
});

test('where there are none nothing is added', () => {
  expect(mergeReceipts([])).toEqual([]);
  expect(mergeReceipts([TYPING])).toEqual([TYPING]);
});
