import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import colours from 'picocolors';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { inspectDocuments } from '../../src/cli/commands/inspect.ts';
import { type Output, createOutput } from '../../src/cli/output.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { signEvent } from '../../src/matrix/signing/signatures.ts';
import { EXAMPLE, keyOf, rulesOf, sampleEvent } from '../matrix/sample-event.ts';
import { type Ran, runCli } from './run-cli.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-inspect-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const MAIN = ['--import', 'tsx', join(import.meta.dirname, '../../src/cli/main.ts')];

/** As a program of its own, with this on its standard input. */
function inspect(args: readonly string[], input: string | Uint8Array) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...MAIN, 'inspect', ...args], {
    input,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  return { status, stdout, stderr };
}

/** The same within this process, on a file. */
function inspectFile(args: readonly string[], text: string): Promise<Ran> {
  writeFileSync(join(folder, 'document.json'), text);
  return runCli(['inspect', ...args, 'document.json'], { cwd: folder });
}

const signed = (changes: Record<string, string | JsonObject> = {}): JsonObject =>
  signEvent(sampleEvent('11', { signatures: {}, ...changes }), rulesOf('11'), EXAMPLE, keyOf(EXAMPLE));
const V11 = ['--room-version', '11'];

describe('inspect', () => {
  test('event tells all about an event from standard input, and checks signatures with the keys it is given', () => {
    const event = signed();
    const { keyId, publicKey } = keyOf(EXAMPLE);
    const keys = join(folder, 'keys.json');
    writeFileSync(keys, JSON.stringify({ [EXAMPLE]: { [keyId]: publicKey } }));
    const { status, stdout, stderr } = inspect(
      ['event', ...V11, '--keys', keys],
      JSON.stringify({ event }, undefined, 2),
    );
    expect([status, stderr]).toEqual([0, '']);
    const answer = JSON.parse(stdout) as JsonObject;
    expect(Object.keys(answer).sort()).toEqual([
      'canonical_json',
      'content_hash',
      'content_hash_ok',
      'event_id',
      'redacted',
      'signatures',
    ]);
    expect(answer).toMatchObject({
      content_hash_ok: true,
      signatures: [{ server: EXAMPLE, key_id: keyId, checked: true, ok: true }],
    });
  });

  test('auth and resolve answer about a file', async () => {
    const create = {
      ...sampleEvent('11'),
      event_id: '$c',
      type: 'm.room.create',
      state_key: '',
      prev_events: [],
      auth_events: [],
    };
    const auth = await inspectFile(['auth', ...V11], JSON.stringify({ event: create, auth_events: [] }));
    expect(auth).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(auth.stdout)).toEqual({ allowed: true });
    const resolved = await inspectFile(
      ['resolve', ...V11],
      JSON.stringify({ events: [create], state_sets: [['$c'], ['$c']] }),
    );
    expect(resolved).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(resolved.stdout)).toEqual({ state: ['$c'], rejected: [] });
  });

  test('one bad document ends with 1 and a line that says why', () => {
    const { status, stdout, stderr } = inspect(['event', ...V11], '{"type": 1, "hashes": {}}');
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^error: event\.type: [^\n]+\n$/);
  });

  test.each<[string, string[], string, RegExp]>([
    ['rubbish', ['event'], 'rubbish', /json\.syntax/],
    ['nothing at all', ['event'], '', /json\.syntax/],
    ['duplicate keys', ['auth'], '{"event":{},"event":{}}', /json\.duplicate-key/],
    ['a document without an event', ['auth'], '{"auth_events":[]}', /document\.event/],
    ['states of unknown events', ['resolve'], '{"events":[],"state_sets":[["$a"]]}', /"\$a" is not among the events/],
    ['a number that is none', ['event'], '{"depth":NaN}', /json\.syntax/],
  ])('%s: exits with 1 and one line', async (_what, [question], text, reason) => {
    const { code, stdout, stderr } = await inspectFile([question!, ...V11], text);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(reason);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  test('a file that cannot be read and keys that are none end with 1', async () => {
    const run = (...args: string[]): Promise<Ran> => runCli(['inspect', ...args], { cwd: folder });
    expect(await run('event', ...V11, 'none.json')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('none.json') as string,
    });
    writeFileSync(join(folder, 'keys.json'), '{"a":"b"}');
    const withKeys = await run('event', ...V11, '--keys', 'keys.json', 'none.json');
    expect(withKeys).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/--keys: keys.json: expected \{"server"/) as string,
    });
  });

  test.each<[string, string[], RegExp]>([
    ['no room version', ['event'], /required option '--room-version <version>' not specified/],
    ['an unknown room version', ['event', '--room-version', '13'], /Allowed choices are 1, 2/],
    ['an unknown question', ['evnt', ...V11], /unknown command|too many arguments/],
    ['keys where nothing is signed', ['auth', ...V11, '--keys', 'x'], /unknown option '--keys'/],
  ])('%s: exits with 2', async (_what, args, message) => {
    const { code, stdout, stderr } = await runCli(['inspect', ...args], { cwd: folder });
    expect(stderr).toMatch(message);
    expect([code, stdout]).toEqual([2, '']);
  });
});

describe('inspect --batch', () => {
  test('answers line by line, in order, bad ones in their place; lines end with a line feed and nothing else', () => {
    const separators = JSON.stringify(signed({ content: { body: 'a\u2028b\u2029c\u0085d' } }));
    const lines = [
      JSON.stringify(signed()),
      'rubbish',
      separators,
      '',
      `${JSON.stringify({ event: signed() })}\r`,
      `{"__proto__":{"event":1},${JSON.stringify(signed()).slice(1)}`,
      `{"type":"a",${JSON.stringify(signed()).slice(1)}`,
      '['.repeat(10_000) + ']'.repeat(10_000),
      JSON.stringify(signed({ content: { body: 'x'.repeat(1_000_000) } })),
      JSON.stringify(signed()),
    ];
    expect(separators).toContain('\u2028');
    const { status, stdout, stderr } = inspect(['event', ...V11, '--batch'], lines.join('\n'));
    expect([status, stderr]).toEqual([0, '']);
    const answers = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as JsonObject);
    const kinds = answers.map(({ error, event_id: id }) =>
      error === undefined ? typeof id : (error as string).split(':')[0],
    );
    expect(kinds).toEqual([
      'string',
      'json.syntax',
      'string',
      'json.syntax',
      'string',
      'string',
      'json.duplicate-key',
      'json.depth',
      'event.size',
      'string',
    ]);
    expect(answers[2]!['canonical_json']).toContain('a\u2028b\u2029c\u0085d');
    expect(answers[4]).toEqual(answers[0]);
    expect(answers[5]!['canonical_json']).toContain('"__proto__":{"event":1}');
  });

  test('bytes that are no UTF-8 cost their own line only', () => {
    const input = Buffer.concat([
      Buffer.from('{"a":"'),
      Buffer.from([0xff, 0xfe]),
      Buffer.from(`"}\n${JSON.stringify(signed())}\n`),
    ]);
    const { status, stdout } = inspect(['event', ...V11, '--batch'], input);
    expect(status).toBe(0);
    expect(stdout.split('\n').map((line) => line.slice(0, 18))).toEqual([
      '{"error":"json.utf',
      '{"canonical_json":',
      '',
    ]);
  });

  test('answers a line before the next one comes', async () => {
    const child = spawn(process.execPath, [...MAIN, 'inspect', 'event', ...V11, '--batch'], { stdio: 'pipe' });
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    for (const line of [JSON.stringify(signed()), 'rubbish']) {
      child.stdin.write(`${line}\n`);
      const answer = await answers.next();
      expect(JSON.parse(answer.value as string)).toHaveProperty(line === 'rubbish' ? 'error' : 'event_id');
    }
    child.stdin.end();
    expect(await once(child, 'close')).toEqual([0, null]);
  });

  test('waits for a reader who is slow, and holds no more than a little for him', async () => {
    const event = JSON.stringify(signed({ content: { body: 'x'.repeat(20_000) } }));
    const file = join(folder, 'events.jsonl');
    writeFileSync(file, `${event}\n`.repeat(500));
    let waiting = 0;
    let answers = 0;
    const slow: Output = {
      ...createOutput(process.stdout, process.stderr, colours),
      raw: async (text) => {
        expect(++waiting).toBe(1);
        expect(text.length).toBeLessThan(256 * 1024);
        await new Promise((resolve) => setImmediate(resolve));
        answers += text.split('\n').length - 1;
        waiting--;
      },
    };
    await inspectDocuments('event', { roomVersion: '11', file, batch: true }, slow);
    expect(answers).toBe(500);
  });
});
