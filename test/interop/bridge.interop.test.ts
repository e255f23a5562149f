/**
 * A bridge on a library that we did not write lives in partial rooms through us: its users come in and talk while the resync goes on, and
 * what others say reaches it although it is away for a time, and our server is killed meanwhile.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { freePort } from '../../src/launch/ports.ts';
import { type EventId } from '../../src/matrix/identifiers.ts';
import { startSimulator } from '../../src/simulator/simulator.ts';
import { botSdkBridge } from '../support/client-libraries.ts';
import { startProcesses } from '../support/processes.ts';
import { SIMULATOR_SEED } from '../support/simulator.ts';

const SOON = { timeout: 30_000, interval: 100 };
const MEMBERS = 40;

async function startRoom() {
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-bridge-'));
  const certificates = await ensureCertificateFiles(folder, [], systemClock);
  const simulator = await startSimulator({
    ...{ seed: SIMULATOR_SEED, residents: 3 },
    rooms: [{ roomVersion: '11', members: MEMBERS, servers: 6, messages: 10 }],
    joinersAuthorityPem: await readFile(certificates.authorityFile, 'utf8'),
  });
  onTestFinished(async () => {
    await simulator.stop();
    await rm(folder, { recursive: true, force: true });
  });
  const [room] = simulator.rooms;
  const { alias, roomId } = room!;
  const [sender] = await simulator.speakers(roomId, 1);
  return {
    ...{ certificates, simulator, alias, roomId },
    says: async (body: string): Promise<string> => {
      const content = { msgtype: 'm.text', body };
      const [eventId] = await simulator.emit(roomId, [{ sender: sender!, type: 'm.room.message', content }]);
      return eventId!;
    },
    has: (eventId: string) => simulator.holds(roomId, eventId as EventId),
  };
}

test('a bridge joins a partial room, talks and listens, and misses nothing while it or our server is away', async () => {
  const room = await startRoom();
  const port = await freePort();
  const registrationOf = (serverName: string) => ({
    ...{
      id: 'bridge',
      url: `http://127.0.0.1:${port}`,
      as_token: 'a-token-of-the-bridge',
      hs_token: 'a-token-of-ours',
    },
    ...{ sender_localpart: 'bridgebot', rate_limited: false },
    namespaces: { users: [{ exclusive: true, regex: `@ghost_.*:${serverName}` }], aliases: [], rooms: [] },
  });
  const rejoinder = await startProcesses(room, { registrations: (name) => [registrationOf(name)] });
  onTestFinished(() => rejoinder.stop());
  const { serverName } = rejoinder;
  const heard: string[] = [];
  const startBridge = (url: string) =>
    botSdkBridge({ url, serverName, port, registration: registrationOf(serverName) }, (eventId) => heard.push(eventId));
  const [first] = await Promise.all([rejoinder.serve({ endedBy: 'KILL' }), rejoinder.worker()]);
  const fault = await room.simulator.inject({ fault: { kind: 'hold', at: { share: 0.5 } }, endpoint: 'state' });
  const hears = (eventId: string): Promise<unknown> => expect.poll(() => heard, SOON).toContain(eventId);
  const phase = async (): Promise<unknown> =>
    (
      await rejoinder.store.query<{ partial: boolean }>('SELECT partial FROM rooms WHERE room_id = $1', [room.roomId])
    )[0]?.partial;

  let bridge = await startBridge(first.clientUrl);
  const roomId = await bridge.join('ghost_ann', room.alias);
  expect(roomId).toBe(room.roomId);
  const early = await bridge.say('ghost_ann', roomId, 'over the bridge');
  await expect.poll(() => room.has(early), SOON).toBe(true);
  await hears(early);
  await hears(await room.says('and back'));
  await fault.held();

  bridge.stop();
  const missed = await room.says('while the bridge is away');
  // It is here before our server goes.
  const isHere = async (): Promise<number> =>
    (await rejoinder.store.query('SELECT FROM event_states WHERE event_id = $1', [missed])).length;
  await expect.poll(isHere, SOON).toBe(1);
  expect([await phase(), heard.includes(missed)]).toEqual([true, false]);
  await first.stop();

  const second = await rejoinder.serve();
  bridge = await startBridge(second.clientUrl);
  await hears(missed);
  const again = await bridge.say('ghost_ann', roomId, 'back again');
  await expect.poll(() => room.has(again), SOON).toBe(true);
  await hears(await room.says('welcome back'));
  expect(await phase()).toBe(true);

  const told = bridge.joined('ghost_ann', roomId);
  await fault.remove();
  await fault.release();
  expect(new Set(await told).size).toBe(MEMBERS + 1);
  expect(await phase()).toBe(false);
  await hears(await room.says('in the whole room'));
  // Each event once: the transactions of before have their names still.
  expect(new Set(heard).size).toBe(heard.length);
  bridge.stop();
}, 180_000);
