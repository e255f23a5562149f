import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type OperatorPorts } from '../../src/operator/ports.ts';
import {
  ALIAS,
  DEGRADED,
  EVIL_NAME,
  PARKED,
  PARTIAL,
  type RunningServer,
  TOKEN,
  WHOLE,
  portsOfTest,
  startServer,
} from '../operator/rooms-of-test.ts';
import { type Ran, runCli } from './run-cli.ts';

let folder: string;
let server: RunningServer | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-cli-'));
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
});

const run = (args: readonly string[], env: Record<string, string> = {}): Promise<Ran> =>
  runCli(args, { cwd: folder, env });

/** Runs a command against a server over these ports, with the right token. */
async function runAgainst(ports: OperatorPorts, args: readonly string[]): Promise<Ran> {
  server = await startServer(ports, 50);
  return run(args, { REJOINDER_URL: server.url, REJOINDER_OPERATOR_TOKEN: TOKEN });
}

describe('the command line', () => {
  test.each([
    [['--help']],
    [['join', '--help']],
    [['members', '--help']],
    [['rooms', '--help']],
    [['config', '--help']],
  ])('%j explains itself', async (args) => {
    const { code, stdout, stderr } = await run(args);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('Usage: rejoinder');
  });

  test('is a program that exits with the code of its failure and prints what is read, no more', () => {
    const args = ['--import', 'tsx', join(import.meta.dirname, '../../src/cli/main.ts')];
    const version = spawnSync(process.execPath, [...args, '--version'], { encoding: 'utf8' });
    expect(version).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: '' });
    const wrong = spawnSync(process.execPath, [...args, 'jion'], { encoding: 'utf8' });
    expect(wrong).toMatchObject({ status: 2, stdout: '' });
  });

  test.each([
    ['no such command', ['jion'], /unknown command 'jion'[^]*Did you mean join/],
    ['no such option', ['rooms', '--jsno'], /unknown option '--jsno'/],
    ['no room to join', ['join', '--user', 'a'], /missing required argument 'room'/],
    ['nobody to join', ['join', '#a:b'], /required option '-u, --user <name>' not specified/],
    [
      'no such membership',
      ['members', '#a:b', '--membership', 'friend'],
      /'friend' is invalid. Allowed choices are join/,
    ],
    [
      'a wait without a unit',
      ['members', '#a:b', '--wait', '5'],
      /--wait: expected a duration such as 30s or 5m, found "5"/,
    ],
    ['neither check nor dump', ['config', 'show'], /Allowed choices are check, dump/],
  ])('%s: says so and exits with 2', async (_what, args, message) => {
    const { code, stdout, stderr } = await run(args);
    expect(stderr).toMatch(message);
    expect([code, stdout]).toEqual([2, '']);
  });
});

describe('config', () => {
  test('check names every problem and exits with 2', async () => {
    writeFileSync(
      join(folder, 'rejoinder.yaml'),
      'server_name: a\nlisteners: { operator: { prot: 1 } }\nlog: { level: x }',
    );
    const { code, stderr } = await run(['config', 'check']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/rejoinder.yaml:2: listeners.operator.prot: expected one of the keys host, port/);
    expect(stderr).toMatch(/rejoinder.yaml:3: log.level: expected one of trace/);
  });

  test('check is content with a good file, and names variables that set nothing', async () => {
    writeFileSync(join(folder, 'rejoinder.yaml'), 'server_name: a');
    const { code, stdout, stderr } = await run(['config', 'check'], { REJOINDER_LOG_LEVLE: 'debug' });
    expect(code).toBe(0);
    expect(stdout).toContain('rejoinder.yaml: valid');
    expect(stderr).toContain('REJOINDER_LOG_LEVLE');
  });

  test('dump prints what is in force, as a file that is valid again, without secrets', async () => {
    const secrets = { REJOINDER_OPERATOR_TOKEN: TOKEN, DATABASE_URL: 'postgres://me:hunter2@db/x' };
    const { stdout } = await run(['config', 'dump'], { REJOINDER_SERVER_NAME: 'a.example', ...secrets });
    expect(stdout).toContain('server_name: a.example');
    expect(stdout).not.toMatch(new RegExp(`hunter2|${TOKEN}`));
    writeFileSync(join(folder, 'again.yaml'), stdout.replace(/token: .*/, `token: ${TOKEN}`));
    expect((await run(['config', 'check', '--config', 'again.yaml'])).stderr).toBe('');
  });
});

describe('a command that talks to the server', () => {
  test('joins and tells what came of it', async () => {
    const { code, stdout, stderr } = await runAgainst(portsOfTest(), [
      'join',
      ALIAS,
      '--user',
      'alice',
      '--via',
      'hs2',
    ]);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^Joined !whole:hs1 via hs2 in \d/);
    expect(stdout).toContain('partial: usable now');
  });

  test('asks for the whole state at once where a classic join is wanted', async () => {
    const asked: unknown[] = [];
    const answering = portsOfTest();
    const ports = portsOfTest({
      joinRoom: (request) => {
        asked.push(request.omitMembers);
        return answering.joinRoom(request);
      },
    });
    await runAgainst(ports, ['join', ALIAS, '--user', 'alice']);
    await runAgainst(ports, ['join', ALIAS, '--user', 'alice', '--classic']);
    expect(asked).toEqual([true, false]);
  });

  test('prints JSON for programs', async () => {
    const { stdout } = await runAgainst(portsOfTest(), ['join', ALIAS, '-u', 'alice', '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ room_id: WHOLE, event_id: '$join' });
  });

  test('lists members in a table, whatever they call themselves', async () => {
    const { code, stdout, stderr } = await runAgainst(portsOfTest(), ['members', ALIAS, '--membership', 'all']);
    expect(code).toBe(0);
    expect(stderr).toBe('3 members\n');
    expect(stdout.split('\n')[0]).toMatch(/^USER +MEMBERSHIP +NAME$/);
    expect(stdout.split('\n')).toHaveLength(5);
    expect(stdout).not.toMatch(/[\u001b\u2028]/);
  });

  test('waits for a room that is partial, shows why, and gives up in time', async () => {
    const { code, stderr } = await runAgainst(portsOfTest(), ['members', PARTIAL, '--wait', '50ms']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/the room is not whole after 0.1 s: fetching the state from hs1/);
  });

  test('lists rooms, and explains one', async () => {
    const { stdout } = await runAgainst(portsOfTest(), ['rooms']);
    expect(stdout).toMatch(/^ROOM +NAME +PHASE/);
    expect(stdout).toMatch(/!partial:hs1 .* fetching +hs1/);
    const { stdout: one } = await run(['rooms', WHOLE, '--url', server?.url ?? ''], {
      REJOINDER_OPERATOR_TOKEN: TOKEN,
    });
    expect(one).toContain(
      '2026-01-01T00:01:00.000Z  Attempt 1 at hs1 failed (transient: timeout): no answer within 60 s',
    );
    expect(one).not.toMatch(/[\u001b\u2028]/);
    expect(one).not.toMatch(/^ {2}now/m);
  });

  test('calls a degraded room that, and says what it lacks and which joins are open', async () => {
    const { stdout } = await runAgainst(portsOfTest(), ['rooms']);
    expect(stdout).toMatch(/!degraded:hs1 .* degraded +hs1/);
    const env = { REJOINDER_OPERATOR_TOKEN: TOKEN, REJOINDER_URL: server?.url ?? '' };
    const { stdout: one } = await run(['rooms', DEGRADED], env);
    expect(one).toMatch(/^ {2}phase {4}degraded$/m);
    expect(one).toMatch(
      /^ {2}missing {2}\$lost, a m.room.member: key-missing since .*, asked hs1, hs2; lacking at the gap \$gap alone, named by hs1$/m,
    );
    expect(one).toMatch(/^ {2}join {5}@b:here.test may be joined via hs2 since .*\(no answer within 60 s\)$/m);
    expect(one).not.toMatch(/is whole|complete/i);
    expect((await run(['members', DEGRADED], env)).stderr).toContain('the room is degraded');
  });

  test('says of a parked room why nobody is asked for its state, and since when', async () => {
    const { stdout } = await runAgainst(portsOfTest(), ['rooms', PARKED]);
    expect(stdout).toMatch(/^ {2}phase {4}parked$/m);
    expect(stdout).toMatch(
      /^ {2}parked {3}since 2026-01-04T00:00:00.000Z, refused: every server that answered refused; nobody is asked/m,
    );
    expect(stdout).toContain('2026-01-04T00:00:00.000Z  Parked (refused): every server that answered refused');
  });

  test('shows how far a running fetch is', async () => {
    const { stdout } = await runAgainst(portsOfTest(), ['rooms', PARTIAL]);
    expect(stdout).toMatch(/^ {2}now {6}5120 of 13412 events held, 4.2 MB received$/m);
  });

  test('says of a room what is to be corrected yet, since when, and how far that is', async () => {
    const { stdout } = await runAgainst(portsOfTest(), ['rooms', WHOLE]);
    expect(stdout).toMatch(
      /^ {2}due {6}1 changes to be followed and 2 events .* since 2026-01-01T00:03:00.000Z; 7 judged so far, 3 of them/m,
    );
  });

  test('commands a room, with who does it and why, and says what came of it', async () => {
    const commanded: unknown[] = [];
    const ports = portsOfTest({
      commandRoom: (roomId, command, said) => {
        commanded.push({ roomId, command, said });
        return Promise.resolve({ isChanged: false, because: `nothing of ${EVIL_NAME}` });
      },
    });
    const said = ['--by', 'me', '--reason', 'it lies'];
    const { code, stdout } = await runAgainst(ports, ['rooms', 'ban-resident', WHOLE, 'evil.example', ...said]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Nothing is changed: nothing of /);
    expect(stdout).not.toMatch(/[\u001b\u2028]/);
    const env = { REJOINDER_OPERATOR_TOKEN: TOKEN, REJOINDER_URL: server?.url ?? '' };
    const policies = ['state_quorum=2', 'give_up_after=14d', 'given_up=default', 'leave_during_resync=silent'];
    expect((await run(['rooms', 'set-policy', ALIAS, ...policies, '--by', 'me'], env)).code).toBe(0);
    expect(commanded).toEqual([
      {
        roomId: WHOLE,
        command: { type: 'ban-resident', resident: 'evil.example' },
        said: { by: 'me', reason: 'it lies' },
      },
      {
        roomId: WHOLE,
        command: {
          type: 'set-policy',
          policy: { stateQuorum: 2, giveUpAfterMs: 1_209_600_000, givenUp: null, leaveDuringResync: 'silent' },
        },
        said: { by: 'me' },
      },
    ]);
  });

  test('retries one room, or all of a server page by page', async () => {
    const env = { REJOINDER_OPERATOR_TOKEN: TOKEN };
    const { code, stdout } = await runAgainst(portsOfTest(), ['rooms', 'retry', '--resident', 'hs1']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${PARKED}\n${PARTIAL}\n` });
    const url = server?.url ?? '';
    expect((await run(['rooms', 'retry', PARKED, '--url', url], env)).code).toBe(0);
    for (const args of [[], [PARKED, '--resident', 'hs1']]) {
      const wrong = await run(['rooms', 'retry', ...args, '--url', url], env);
      expect(wrong.code).toBe(2);
      expect(wrong.stderr).toMatch(/Name one room, .* or all of a server's with --resident/);
    }
  });

  test('watches a room only as long as it is on its way', async () => {
    const { code, stdout, stderr } = await runAgainst(portsOfTest(), ['rooms', 'watch', PARKED]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toBe(`${PARKED} is parked\n`);
  });

  test('lists rooms and shows one by a name of their own, too', async () => {
    const { stdout } = await runAgainst(portsOfTest(), ['rooms', 'list']);
    expect(stdout).toMatch(/^ROOM +NAME +PHASE/);
    const env = { REJOINDER_OPERATOR_TOKEN: TOKEN, REJOINDER_URL: server?.url ?? '' };
    expect((await run(['rooms', 'show', PARKED], env)).stdout).toMatch(/^ {2}phase {4}parked$/m);
    // Options after the name of a subcommand are its own.
    const { stdout: json } = await run(['rooms', 'show', PARKED, '--json'], env);
    expect(JSON.parse(json)).toMatchObject({ room_id: PARKED, pinned: [], banned: [], policy: {} });
  });

  test.each([
    ['no server', ['pin-resident', WHOLE], 2, /missing required argument 'server'/],
    ['what is no server', ['pin-resident', WHOLE, 'no server'], 2, /resident: expected a server name, such as/],
    ['a policy without a value', ['set-policy', WHOLE, 'given_up'], 2, /expected a policy and its value/],
    [
      'a policy that is not known',
      ['set-policy', WHOLE, 'purge=now'],
      2,
      /policy: purge: not known here|purge: not known/,
    ],
    ['a value that is not one', ['set-policy', WHOLE, 'state_quorum=9'], 2, /policy.state_quorum: expected 3 at most/],
    [
      'an endless reason',
      ['ban-resident', WHOLE, 'hs1', '--reason', 'x'.repeat(301)],
      2,
      /reason: expected why, at most/,
    ],
  ])('refuses a command with %s', async (_what, args, exitCode, message) => {
    const { code, stderr } = await runAgainst(portsOfTest(), ['rooms', ...args]);
    expect(stderr).toMatch(message);
    expect(code).toBe(exitCode);
  });

  test('passes on why the server refused', async () => {
    const { code, stderr } = await runAgainst(portsOfTest(), ['join', '#none', '--user', 'alice']);
    expect(code).toBe(2);
    expect(stderr).toBe('error: room: expected a room id (!…) or alias (#name:server) (M_INVALID_PARAM)\n');
    const { code: unknown, stderr: why } = await run(['rooms', '#none:hs1'], {
      REJOINDER_URL: server?.url ?? '',
      REJOINDER_OPERATOR_TOKEN: TOKEN,
    });
    expect(unknown).toBe(1);
    expect(why).toBe('error: hs1 knows no alias #none:hs1 (M_NOT_FOUND)\n');
  });

  test('finds the token where the server keeps it', async () => {
    server = await startServer();
    await mkdir(join(folder, 'rejoinder-data'));
    writeFileSync(join(folder, 'rejoinder-data', 'operator.token'), `${TOKEN}\n`, { mode: 0o600 });
    expect((await run(['rooms', '--url', server.url])).code).toBe(0);
  });

  test.each([
    ['there is no token', {}, /there is no operator token at .*operator.token\nStart the server once/],
    ['the token is wrong', { REJOINDER_OPERATOR_TOKEN: 'x'.repeat(20) }, /does not know the token from operator.token/],
  ])('says so when %s', async (_what, env, message) => {
    server = await startServer();
    const { code, stderr } = await run(['rooms'], { REJOINDER_URL: server.url, ...env });
    expect(stderr).toMatch(message);
    expect(code).toBe(1);
  });

  test('says so when no server is there', async () => {
    const env = { REJOINDER_OPERATOR_TOKEN: TOKEN, REJOINDER_LISTENERS_OPERATOR_PORT: '9' };
    const { code, stderr } = await run(['rooms'], env);
    expect(stderr).toBe(
      'error: no server answers at http://127.0.0.1:9 (ECONNREFUSED)\nStart it with "rejoinder up" or "rejoinder serve", or say where it is with --url.\n',
    );
    expect(code).toBe(1);
  });

  test('says so when something else answers', async () => {
    const other = createServer((socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<p/>')).listen(
      0,
      '127.0.0.1',
    );
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    const { stderr } = await run(['rooms', '--url', `http://127.0.0.1:${port}`], { REJOINDER_OPERATOR_TOKEN: TOKEN });
    other.close();
    expect(stderr).toContain('is no Rejoinder');
  });
});
