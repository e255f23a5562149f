import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type EventId } from '../../src/matrix/identifiers.ts';
import { type OperatorPorts } from '../../src/operator/ports.ts';
import { type Correction, type CorrectionsPage, type EventStory, type Witness } from '../../src/rooms/contract.ts';
import { EVIL_NAME, type RunningServer, TOKEN, WHOLE, portsOfTest, startServer } from '../operator/rooms-of-test.ts';
import { type Ran, runCli } from './run-cli.ts';

let folder: string;
let server: RunningServer | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-explain-'));
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
});

async function runAgainst(ports: OperatorPorts, args: readonly string[]): Promise<Ran> {
  server = await startServer(ports, 50);
  return runCli(args, { cwd: folder, env: { REJOINDER_URL: server.url, REJOINDER_OPERATOR_TOKEN: TOKEN } });
}

const SNAPSHOT = '0'.repeat(32) as never;
const says = (eventId: string, words: string): Witness => ({
  eventId: eventId as EventId,
  type: 'm.room.member',
  stateKey: '@bob:hs1',
  says: words,
});

function correction(position: number): Correction {
  return {
    entry: {
      ...{ position, roomId: WHOLE, epoch: 1, stream: 'timeline', seq: position, recordedAt: Date.UTC(2026, 0, 1) },
      event: {
        ...{ type: 'EventUnPartialStated', eventId: `$said${position}` as EventId, was: 'accepted', is: 'rejected' },
        ...{ stateBefore: SNAPSHOT, stateAfter: SNAPSHOT, rule: 'sender-not-joined', reason: `no ${EVIL_NAME}` },
      },
    },
    turned: [{ was: says('$joined', '@bob:hs1 is joined'), is: says('$left', '@bob:hs1 has left') }],
  };
}

/** Two pages, of which the first is empty and not the last. */
function correctionsOf(pages: CorrectionsPage[]): OperatorPorts {
  return portsOfTest({
    corrections: (_roomId, { after }) => {
      const page = pages.find(({ next }) => next > after);
      return page === undefined ? Promise.reject(new Error('asked too often')) : Promise.resolve(page);
    },
  });
}
const PAGES: CorrectionsPage[] = [
  { corrections: [], next: 5_000, head: 5_010 },
  { corrections: [correction(5_005)], next: 5_010, head: 5_020 },
];

test('the corrections of a room are listed with what they rested on, page after page', async () => {
  const { code, stdout } = await runAgainst(correctionsOf(PAGES), ['corrections', WHOLE]);
  expect(code).toBe(0);
  const [first, second, end] = stdout.split('\n');
  expect(first).toMatch(
    /^2026-01-01T00:00:00.000Z {2}\$said5005 is judged by the full state: accepted before, rejected now: no <script>/,
  );
  expect(first).not.toContain('\u001b[31m');
  expect(second).toBe('  before: @bob:hs1 is joined ($joined); in truth: @bob:hs1 has left ($left)');
  expect(end).toBe('');
});

test('as JSON they are a line each, whole', async () => {
  const { stdout } = await runAgainst(correctionsOf(PAGES), ['corrections', WHOLE, '--json']);
  expect(JSON.parse(stdout)).toMatchObject({
    position: 5_005,
    data: { event_id: '$said5005', rule: 'sender-not-joined' },
    turned_out_otherwise: [{ was: { event_id: '$joined' }, is: { event_id: '$left', state_key: '@bob:hs1' } }],
  });
});

test('a room without any says so', async () => {
  const { stdout } = await runAgainst(correctionsOf([{ corrections: [], next: 9, head: 9 }]), ['corrections', WHOLE]);
  expect(stdout).toBe('Nothing in this room turned out otherwise than it had been judged.\n');
});

const STORY: EventStory = {
  ...{ eventId: '$said/1' as EventId, roomId: WHOLE, place: 'timeline', verdict: 'rejected', isProvisional: false },
  event: null,
  judgedBy: [says('$left', '@bob:hs1 has left')],
  history: [correction(7)],
  causes: [],
  lines: ['It is rejected.', `It came from ${EVIL_NAME}.`],
};

test('an event is explained in lines that no name can break', async () => {
  const asked: string[] = [];
  const explainEvent = (eventId: EventId): Promise<EventStory> => {
    asked.push(eventId);
    return Promise.resolve(STORY);
  };
  const ran = await runAgainst(portsOfTest({ explainEvent }), ['explain', '$said/1']);
  expect(asked).toEqual(['$said/1']);
  expect(ran).toMatchObject({ code: 0, stderr: '' });
  expect(ran.stdout.split('\n')).toHaveLength(3);
  expect(ran.stdout).not.toContain('\u001b');
});

test('its story is there as data, too', async () => {
  const explainEvent = (): Promise<EventStory> => Promise.resolve(STORY);
  const { stdout } = await runAgainst(portsOfTest({ explainEvent }), ['explain', '$said/1', '--json']);
  expect(JSON.parse(stdout)).toMatchObject({
    event_id: '$said/1',
    room_id: WHOLE,
    place: 'timeline',
    verdict: 'rejected',
    provisional: false,
    judged_by: [{ event_id: '$left', says: '@bob:hs1 has left' }],
    history: [{ position: 7, turned_out_otherwise: [expect.anything()] }],
    story: STORY.lines,
  });
});

test.each([
  ['explain', '$nobody', 1, '$nobody is not known here (M_NOT_FOUND)'],
  ['explain', 'nobody', 2, 'event: expected an event id'],
  ['corrections', 'there', 2, 'room: expected a room id'],
])('%s %s fails with a clear word', async (command, what, code, message) => {
  const ran = await runAgainst(portsOfTest(), [command, what]);
  expect(ran).toMatchObject({ code, stderr: expect.stringContaining(message) });
});
