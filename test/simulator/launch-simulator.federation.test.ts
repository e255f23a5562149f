import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { expect, onTestFinished, test } from 'vitest';
import { identify, isRunning } from '../../src/launch/process-identity.ts';
import { LaunchError } from '../../src/launch/progress.ts';
import { type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type SimulatorOptions } from '../../src/simulator/contract.ts';
import { type LaunchedSimulator, launchSimulator } from '../../src/simulator/launch-simulator.ts';
import { startSimulator } from '../../src/simulator/simulator.ts';
import { failureOf, signal, testAuthority } from '../federation/tls-server.ts';
import { eventually } from '../support/processes.ts';
import { SIMULATOR_SEED, startTestJoiner } from '../support/simulator.ts';

const OPTIONS: SimulatorOptions = {
  seed: SIMULATOR_SEED,
  residents: 2,
  rooms: [
    { roomVersion: '11', members: 60, servers: 12, messages: 10 },
    { roomVersion: '12', members: 20, servers: 5, messages: 5 },
  ],
};

async function launched(lines: string[] = []): Promise<LaunchedSimulator> {
  const simulator = await launchSimulator({
    ...OPTIONS,
    joinersAuthorityPem: (await testAuthority()).certificatePem,
    env: process.env,
    progress: (line) => lines.push(line),
  });
  onTestFinished(() => simulator.stop());
  return simulator;
}

test('in a process of its own it has the same rooms as in this one, and tells how it gets on', async () => {
  const lines: string[] = [];
  const [there, here] = [await launched(lines), await startSimulator(OPTIONS)];
  onTestFinished(() => here.stop());
  expect(there.pid).not.toBe(process.pid);
  expect(there.rooms).toEqual(here.rooms);
  expect(there.residents).toEqual(here.residents);
  for (const { roomId } of here.rooms) {
    expect(await there.digest(roomId)).toEqual(await here.digest(roomId));
    expect(await there.speakers(roomId, 7)).toEqual(await here.speakers(roomId, 7));
  }
  expect(lines.map((line) => line.split(' ')[0])).toEqual(['generating', 'generated', 'generating', 'generated']);
});

test('it is joined, made to fail, told to speak and counted from here', async () => {
  const simulator = await launched();
  const joiner = await startTestJoiner(simulator);
  const [room] = simulator.rooms;
  const { roomId } = room!;
  const resident = simulator.residents[1]!;
  const { eventId } = await joiner.join(resident, roomId);

  const hold = await simulator.inject({ fault: { kind: 'hold', at: { share: 0.5 } }, endpoint: 'state', times: 1 });
  const answer = await joiner.client.state(resident, roomId, eventId, { signal });
  const taking = (async () => {
    let events = 0;
    for await (const batch of answer) if (batch.array === 'pdus') events += batch.events.length;
    return events;
  })();
  await hold.held();
  expect(await hold.hits()).toBe(1);
  await hold.release();
  expect(await taking).toBe(room!.stateEvents);

  const [sender] = await simulator.speakers(roomId, 1);
  const drafts = [{ sender: sender!, type: 'm.room.message', content: { body: 'from another process' } }];
  expect(await simulator.emit(roomId, drafts)).toHaveLength(1);
  await simulator.pushesSettled();
  expect(joiner.received).toHaveLength(1);
  const summary = await simulator.summary(roomId);
  expect(summary).toMatchObject({ members: room!.members + 1, stateEvents: room!.stateEvents + 1 });
  expect(await simulator.stateEvent(roomId, 'm.room.member', joiner.userId)).toMatchObject({
    eventId,
    content: { membership: 'join' },
  });
  expect(await simulator.stateEvent(roomId, 'm.room.member', '@nobody:here')).toBeUndefined();

  // Refused by the rules: pushed like any other, and nothing in the room.
  const truth = await simulator.digest(roomId);
  const liar = { sender: '@liar:hs1.federation.test' as UserId, type: 'm.room.topic', stateKey: '', content: {} };
  expect(await simulator.emit(roomId, [liar])).toHaveLength(1);
  await simulator.pushesSettled();
  expect(joiner.received).toHaveLength(2);
  expect(await simulator.digest(roomId)).toEqual(truth);
  const rows = (await simulator.counts()).map(({ server, endpoint, requests }) => [server, endpoint, requests]);
  expect(rows).toContainEqual([resident, 'state', 1]);
  await simulator.resetCounts();
  expect(await simulator.counts()).toEqual([]);

  await expect(simulator.digest('!none:here' as RoomId)).rejects.toThrow('the simulator has no room !none:here');
});

test('after its end nothing of it is left, and calls say so', async () => {
  const simulator = await launched();
  const process = identify(simulator.pid);
  const hold = await simulator.inject({ fault: { kind: 'hold', at: { bytes: 1 } } });
  const waiting = failureOf(hold.held());
  await simulator.stop();
  expect(isRunning(process)).toBe(false);
  expect(await waiting).toMatchObject({ message: expect.stringMatching(/^the simulator (exited|ended)/) as string });
  await expect(simulator.counts()).rejects.toThrow(/^the simulator (exited|ended)/);
});

test('what keeps it from starting is told', async () => {
  const occupant = createServer().listen(0, '127.0.0.1');
  await once(occupant, 'listening');
  onTestFinished(() => void occupant.close());
  const { port } = occupant.address() as AddressInfo;
  const failure = await failureOf(launchSimulator({ ...OPTIONS, port, env: process.env }));
  expect(failure).toBeInstanceOf(LaunchError);
  expect(failure).toMatchObject({ message: expect.stringContaining('EADDRINUSE') as string });
});

test('it does not outlive the process that started it, even one that was killed', async () => {
  const entry = new URL('../../src/simulator/launch-simulator.ts', import.meta.url).href;
  const code = `
    const { launchSimulator } = await import(${JSON.stringify(entry)});
    const simulator = await launchSimulator({ ...${JSON.stringify(OPTIONS)}, env: process.env });
    console.log(simulator.pid);
  `;
  const parent = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', code]);
  onTestFinished(() => void parent.kill('SIGKILL'));
  const [line] = (await once(createInterface(parent.stdout), 'line')) as [string];
  const simulator = identify(Number(line));
  expect(isRunning(simulator)).toBe(true);
  parent.kill('SIGKILL');
  expect(await eventually('its end', () => Promise.resolve(isRunning(simulator) ? undefined : 'over'))).toBe('over');
});
