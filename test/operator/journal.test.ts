import { afterEach, describe, expect, test } from 'vitest';
import { type EventId, type RoomId } from '../../src/matrix/identifiers.ts';
import { type JournalEvent, streamOf } from '../../src/resync/entries.ts';
import { type JournalPart, type JournalQuery, type JournalReads } from '../../src/rooms/contract.ts';
import { RoomError } from '../../src/rooms/error.ts';
import { PARTIAL, type RunningServer, TOKEN, WHOLE, ask, portsOfTest, startServer } from './rooms-of-test.ts';

let server: RunningServer;
afterEach(() => server.close());

const at = Date.UTC(2026, 0, 1);
const SNAPSHOT = '0'.repeat(32) as never;

function entry(position: number, event: JournalEvent, roomId: RoomId = WHOLE): JournalPart['entries'][number] {
  return { position, roomId, epoch: 1, stream: streamOf(event), seq: position, event, recordedAt: at };
}
const walked: JournalEvent = { type: 'EventsWalked', walked: 2, corrected: 1, remaining: 0, at };
const corrected: JournalEvent = {
  type: 'EventUnPartialStated',
  eventId: '$late' as EventId,
  stateBefore: SNAPSHOT,
  stateAfter: SNAPSHOT,
  was: 'accepted',
  is: 'rejected',
  rule: 'sender-not-joined',
  reason: 'the sender is not joined',
};
const ENTRIES = [entry(5, corrected, PARTIAL), entry(6, walked)];

/** A journal of two entries, and what was asked of it. */
function journalOfTest(over: Partial<JournalReads> = {}): {
  asked: JournalQuery[];
  journal: JournalReads;
  cuts: () => number;
} {
  const asked: JournalQuery[] = [];
  let cuts = 0;
  async function* parts(): AsyncGenerator<JournalPart> {
    yield await Promise.resolve({ entries: [ENTRIES[0]!], next: 5 });
    yield { entries: [], next: 6 };
  }
  const journal: JournalReads = {
    page: (query) => {
      asked.push(query);
      return Promise.resolve({ entries: ENTRIES, next: 6, head: 9 });
    },
    follow: (query) => {
      asked.push(query);
      return Promise.resolve({ parts: parts(), cut: () => void (cuts += 1) });
    },
    ...over,
  };
  return { asked, journal, cuts: () => cuts };
}

const follow = (query = '', headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${server.url}/_rejoinder/v1/journal${query}`, {
    headers: { authorization: `Bearer ${TOKEN}`, accept: 'text/event-stream', ...headers },
  });

describe('pages of the journal', () => {
  test('hold entries in words and as data, and where the next page begins', async () => {
    const { asked, journal } = journalOfTest();
    server = await startServer(portsOfTest({ journal }));
    const { status, body } = await ask(server, `/journal?from=4&limit=2`);
    expect(status).toBe(200);
    expect(body).toEqual({
      entries: [
        {
          position: 5,
          room_id: PARTIAL,
          epoch: 1,
          recorded_at: '2026-01-01T00:00:00.000Z',
          type: 'EventUnPartialStated',
          explanation:
            '$late is judged by the full state: accepted before, rejected now: the sender is not joined (sender-not-joined)',
          data: {
            event_id: '$late',
            state_before: SNAPSHOT,
            state_after: SNAPSHOT,
            was: 'accepted',
            is: 'rejected',
            rule: 'sender-not-joined',
            reason: 'the sender is not joined',
          },
        },
        expect.objectContaining({
          type: 'EventsWalked',
          data: { walked: 2, corrected: 1, remaining: 0, at: '2026-01-01T00:00:00.000Z' },
        }),
      ],
      next: 6,
      head: 9,
    });
    expect(asked).toEqual([{ after: 4, limit: 2, roomId: undefined, types: undefined }]);
  });

  test('are of the whole journal from its beginning, unless one room or some types are asked for', async () => {
    const { asked, journal } = journalOfTest();
    server = await startServer(portsOfTest({ journal }));
    await ask(server, '/journal');
    await ask(
      server,
      `/journal?from=now&room_id=${encodeURIComponent(WHOLE)}&types=ResyncCompleted,EventUnPartialStated`,
    );
    expect(asked).toEqual([
      { after: 0, limit: 100, roomId: undefined, types: undefined },
      { after: 'now', limit: 100, roomId: WHOLE, types: new Set(['ResyncCompleted', 'EventUnPartialStated']) },
    ]);
  });

  test.each([
    ['from=-1', /from: expected a position of the journal/],
    ['from=12x', /from: expected a position of the journal/],
    ['from=', /from: expected a position of the journal/],
    ['from=1&from=2', /from: expected a position of the journal/],
    ['from=99999999999999999999', /from: expected a position of the journal/],
    ['limit=0', /limit: expected 1 to 1000/],
    ['limit=1001', /limit: expected 1 to 1000/],
    ['room_id=there', /room_id: expected a room id/],
    ['types=ResyncComplete', /types\.0: expected some of PartialStateJoined/],
    ['since=1', /since: not known here/],
  ])('%s is refused by name', async (query, message) => {
    server = await startServer();
    const { status, body } = await ask(server, `/journal?${query}`);
    expect([status, body['errcode']]).toEqual([400, 'M_INVALID_PARAM']);
    expect(body['error']).toMatch(message);
    expect((await follow(`?${query}`)).status).toBe(400);
  });

  test('of a position that was never given are refused', async () => {
    const page = (): Promise<never> => Promise.reject(new RoomError('invalid', 'from: position 9 is beyond'));
    server = await startServer(portsOfTest({ journal: journalOfTest({ page }).journal }));
    expect(await ask(server, '/journal?from=9')).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
  });
});

describe('following the journal', () => {
  test('gives each entry as an event whose id is its position, and says how far it got without any', async () => {
    const { asked, journal } = journalOfTest();
    server = await startServer(portsOfTest({ journal }));
    const response = await follow('?from=4&types=EventUnPartialStated');
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const blocks = (await response.text()).split('\n\n');
    expect(blocks[1]).toMatch(/^id: 5\ndata: \{"position":5,.*"type":"EventUnPartialStated"/);
    expect(blocks.slice(2)).toEqual(['id: 6', '']);
    expect(asked).toEqual([{ after: 4, roomId: undefined, types: new Set(['EventUnPartialStated']) }]);
  });

  test('goes on where the reader was, which counts for more than where he began', async () => {
    const { asked, journal } = journalOfTest();
    server = await startServer(portsOfTest({ journal }));
    await (await follow('?from=0', { 'last-event-id': '41' })).text();
    await (await follow('?from=3', { 'last-event-id': '' })).text();
    expect(asked.map(({ after }) => after)).toEqual([41, 3]);
    const refused = await follow('', { 'last-event-id': 'abc' });
    expect(refused.status).toBe(400);
    expect(await refused.text()).toContain('Last-Event-ID: expected a position');
  });

  test('is refused with a code where too many do', async () => {
    server = await startServer();
    const response = await follow();
    expect(response.status).toBe(429);
    expect(await response.json()).toMatchObject({ errcode: 'M_LIMIT_EXCEEDED' });
  });

  test('needs the token', async () => {
    server = await startServer();
    expect((await follow('', { authorization: 'Bearer wrong' })).status).toBe(401);
  });

  test('ends with the reader', async () => {
    let left: () => void = () => undefined;
    const hasLeft = new Promise<void>((resolve) => (left = resolve));
    const { journal } = journalOfTest({
      follow: (_query, signal) => {
        signal.addEventListener('abort', left);
        async function* quiet(): AsyncGenerator<JournalPart> {
          yield { entries: [], next: 1 };
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
        }
        return Promise.resolve({ parts: quiet(), cut: () => undefined });
      },
    });
    server = await startServer(portsOfTest({ journal }));
    const response = await follow();
    const reader = response.body!.getReader();
    await reader.read();
    await reader.cancel();
    await hasLeft;
  });
});
