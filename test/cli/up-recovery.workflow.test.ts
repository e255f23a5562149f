/** `rejoinder up` with servers of its own, which are killed under it. */
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { startChild } from '../../src/launch/child.ts';
import { freePort } from '../../src/launch/ports.ts';
import { commandLineOf } from '../../src/launch/process-identity.ts';
import { startSimulator } from '../../src/simulator/simulator.ts';
import { eventually } from '../support/processes.ts';

const BINARY = fileURLToPath(new URL('../../bin/rejoinder.js', import.meta.url));
const TOKEN = 'a-token-for-this-test';

/** The process whose command line begins with such a program and names the file or folder. */
function processOf(program: RegExp, names: string): number {
  const pids = readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0);
  const found = pids.find((pid) => {
    const command = commandLineOf(pid);
    return program.test(command.split(' ')[0] ?? '') && command.includes(names);
  });
  if (found === undefined) throw new Error(`no process ${program.source} with ${names}`);
  return found;
}

test('a PostgreSQL and a Temporal that die are started again, are told of, and rooms become whole over them', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rejoinder-up-'));
  const certificates = await ensureCertificateFiles(join(folder, 'tls'), [], systemClock);
  const simulator = await startSimulator({
    seed: 12,
    residents: 1,
    rooms: [1, 2].map(() => ({ roomVersion: '11', members: 20, servers: 3, messages: 2 })),
    joinersAuthorityPem: readFileSync(certificates.authorityFile, 'utf8'),
  });
  const [federationPort, operatorPort] = [await freePort(), await freePort()];
  const authoritiesFile = join(folder, 'authorities.pem');
  writeFileSync(authoritiesFile, `${readFileSync(certificates.authorityFile, 'utf8')}\n${simulator.authorityPem}`);
  const data = join(folder, 'data');
  const settings = {
    server_name: `localhost:${federationPort}`,
    data_directory: data,
    listeners: {
      federation: {
        host: '127.0.0.1',
        port: federationPort,
        tls: { certificate_path: certificates.certificateFile, private_key_path: certificates.keyFile },
      },
      client: { port: 0 },
      operator: { port: operatorPort },
    },
    operator: { token: TOKEN },
    trusted_key_servers: simulator.residents.map((name) => ({ server_name: name })),
    federation: {
      custom_ca_path: authoritiesFile,
      allowed_ip_ranges: ['127.0.0.0/8'],
      static_addresses: simulator.staticAddresses,
    },
    resync: { sweep_after: '1s' },
  };
  const configFile = join(folder, 'rejoinder.yaml');
  writeFileSync(configFile, JSON.stringify(settings));
  const logFile = join(folder, 'up.log');
  const up = await startChild({
    name: 'rejoinder up',
    command: process.execPath,
    args: [BINARY, '--config', configFile, 'up'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      REJOINDER_CACHE_DIR: process.env['REJOINDER_CACHE_DIR'],
    },
    logFile,
    stopSignal: 'TERM',
    cwd: folder,
  });
  onTestFinished(async () => {
    await up.stop();
    await simulator.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const said = (): string => readFileSync(logFile, 'utf8');
  const ask = async (path: string, post?: object): Promise<Record<string, unknown>> => {
    const response = await fetch(`http://127.0.0.1:${operatorPort}/_rejoinder/v1${path}`, {
      method: post === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
      ...(post === undefined ? {} : { body: JSON.stringify(post) }),
    });
    return (await response.json()) as Record<string, unknown>;
  };
  const wholeAfterJoin = async (index: number): Promise<void> => {
    const { alias, roomId } = simulator.rooms[index]!;
    await eventually('a join is answered', async () => {
      const answer = await ask('/rooms/join', { room: alias, user_id: 'me' });
      return answer['room_id'] === roomId ? true : undefined;
    });
    await eventually(`${roomId} is whole`, async () => {
      const { rooms } = (await ask('/rooms')) as { rooms: readonly { room_id: string; phase: string }[] };
      return rooms.find((room) => room.room_id === roomId)?.phase === 'complete' ? true : undefined;
    });
  };

  await up.waitUntil(() => Promise.resolve(said().includes('Rejoinder is up')), 100_000);
  process.kill(processOf(/postgres$/, `-D ${/data in (\S+)/.exec(said())![1]!}`), 'SIGKILL');
  await up.waitUntil(() => Promise.resolve(said().includes('PostgreSQL: started again')), 60_000);
  await wholeAfterJoin(0);

  process.kill(processOf(/temporal$/, join(data, 'temporal')), 'SIGKILL');
  await up.waitUntil(() => Promise.resolve(said().includes('Temporal: started again')), 60_000);
  await wholeAfterJoin(1);

  expect(said()).toMatch(/PostgreSQL exited with 137: starting it again\nPostgreSQL: started again/);
  expect(said()).toMatch(/Temporal exited with 137: starting it again\nTemporal: started again/);
  await up.stop();
  expect(await up.ended).toBe('exited with 0');
}, 240_000);
