import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readServerEvents } from '../../src/cli/server-events.ts';
import { tailJournal } from '../../src/cli/commands/journal-tail.ts';
import { type Output } from '../../src/cli/output.ts';
import { type JournalPart, type JournalQuery, type JournalReads } from '../../src/rooms/contract.ts';
import { RoomError } from '../../src/rooms/error.ts';
import { ALIAS, type RunningServer, TOKEN, WHOLE, portsOfTest, startServer } from '../operator/rooms-of-test.ts';
import { runCli } from './run-cli.ts';

let folder: string;
let server: RunningServer | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-tail-'));
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
});

const at = Date.UTC(2026, 0, 1);
const walked = (position: number): JournalPart => ({
  entries: [
    {
      ...{ position, roomId: WHOLE, epoch: 1, stream: 'resync', seq: position, recordedAt: at },
      event: { type: 'EventsWalked', walked: position, corrected: 1, remaining: 0, at },
    },
  ],
  next: position,
});

/** Each that follows is given the next list of parts, and then loses the connection. */
function journalOf(...lists: (readonly JournalPart[] | Error)[]): { asked: JournalQuery[]; journal: JournalReads } {
  const asked: JournalQuery[] = [];
  async function* told(list: readonly JournalPart[]): AsyncGenerator<JournalPart> {
    for (const part of list) yield await Promise.resolve(part);
  }
  return {
    asked,
    journal: {
      page: () => Promise.reject(new Error('not asked for')),
      follow: (query) => {
        asked.push(query);
        const list = lists.shift() ?? [];
        if (list instanceof Error) return Promise.reject(list);
        return Promise.resolve({ parts: told(list), cut: () => undefined });
      },
    },
  };
}

interface Tailing {
  readonly lines: string[];
  readonly notes: string[];
  /** Ends when `count` lines are printed. */
  readonly until: (count: number) => Promise<void>;
}

async function tail(journal: JournalReads, flags: { json?: boolean; room?: string; from?: string }): Promise<Tailing> {
  server = await startServer(portsOfTest({ journal }));
  const env = { REJOINDER_URL: server.url, REJOINDER_OPERATOR_TOKEN: TOKEN };
  const { from = 'now', room, json = false } = flags;
  const stop = new AbortController();
  const lines: string[] = [];
  const notes: string[] = [];
  let wanted = Infinity;
  const plain = { dim: (text: string) => text, red: (text: string) => text };
  const output = {
    colours: plain,
    line: (text = '') => {
      lines.push(text);
      if (lines.length >= wanted) stop.abort(new Error('enough'));
    },
    note: (text: string) => void notes.push(text),
  } as unknown as Output;
  const options = { env, url: server.url, from, room, types: undefined, json, stop: stop.signal, retryMs: 1 };
  return {
    lines,
    notes,
    until: (count) => {
      wanted = count;
      return tailJournal(options, output);
    },
  };
}

test('entries are told a line each, and a lost connection is taken up where it was', async () => {
  const busy = new RoomError('too-many', 'nobody is let in now');
  const { asked, journal } = journalOf([{ entries: [], next: 4 }, walked(5), { entries: [], next: 8 }], busy, [
    walked(9),
  ]);
  const { lines, notes, until } = await tail(journal, { room: ALIAS });
  await until(2);
  expect(lines).toEqual([
    `5  2026-01-01T00:00:00.000Z  ${WHOLE}  Events judged again with full state: 5; corrected: 1; left: 0`,
    `9  2026-01-01T00:00:00.000Z  ${WHOLE}  Events judged again with full state: 9; corrected: 1; left: 0`,
  ]);
  expect(asked).toEqual(['now', 8, 8].map((after) => ({ after, roomId: WHOLE, types: undefined })));
  expect(notes).toHaveLength(2);
  expect(notes[1]).toBe('nobody is let in now (M_LIMIT_EXCEEDED); going on after position 8 when it is back');
});

test('as JSON each line is the entry as the server has it', async () => {
  const { journal } = journalOf([walked(5)]);
  const { lines, until } = await tail(journal, { json: true, from: '4' });
  await until(1);
  expect(JSON.parse(lines[0]!)).toMatchObject({ position: 5, type: 'EventsWalked', data: { walked: 5 } });
});

test('a server that refuses, or is not there to begin with, ends the command', async () => {
  server = await startServer(
    portsOfTest({
      journal: journalOf(new RoomError('invalid', 'from: position 9 is beyond the newest one, 8')).journal,
    }),
  );
  const env = { REJOINDER_URL: server.url, REJOINDER_OPERATOR_TOKEN: TOKEN };
  const run = (...args: string[]) => runCli(['journal', 'tail', ...args], { cwd: folder, env });
  expect(await run('--from', '9')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('position 9 is beyond the newest one, 8'),
  });
  expect(await run('--from', 'yesterday')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('from: expected a position'),
  });
  await server.close();
  expect(await run()).toMatchObject({ code: 1, stderr: expect.stringContaining('no server answers at') });
});

test('events are taken apart wherever the network cuts them, and one that is not whole is left out', async () => {
  const text = 'retry: 5\n\n: hello\n\nid: 1\ndata: {"é":1}\n\nid:2\r\n\r\ndata: a\ndata: b\n\nid: 3\ndata: lost';
  async function* bytewise(): AsyncGenerator<Uint8Array> {
    for (const byte of Buffer.from(text)) yield await Promise.resolve(Uint8Array.of(byte));
  }
  const events: unknown[] = [];
  for await (const event of readServerEvents(bytewise())) events.push(event);
  expect(events).toEqual([
    { id: '1', data: '{"é":1}' },
    { id: '2', data: undefined },
    { id: '2', data: 'a\nb' },
  ]);
});
