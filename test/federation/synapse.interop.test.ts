import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { type FederationClient, createFederationClient } from '../../src/federation/client.ts';
import { type SendJoinStream } from '../../src/federation/contract.ts';
import { checkJoinAnswer } from '../../src/federation/join-answer.ts';
import { buildJoinEvent, readJoinTemplate, sendJoinDestination } from '../../src/federation/join-template.ts';
import { createKeyRing } from '../../src/federation/key-ring.ts';
import { type ReceivedTransaction } from '../../src/rooms/contract.ts';
import { createFederationServer } from '../../src/federation-api/server.ts';
import { freePort } from '../../src/launch/ports.ts';
import { type SynapseRoom, createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { type EventId, type RoomAlias, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { signEvent } from '../../src/matrix/signing/signatures.ts';
import { type CheckedPdu, type KnownKey } from '../../src/verification/contract.ts';
import { createVerificationPool } from '../../src/verification/pool.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';
import { ourKey, signal, silent } from './tls-server.ts';
import { rulesOf } from '../matrix/sample-event.ts';
import { bodiesReadHere, rawPdus } from '../support/bodies.ts';

const missing = await whySynapseIsMissing();

describe.skipIf(missing !== undefined)('with a real Synapse', () => {
  let synapse: TestSynapse;
  let room: SynapseRoom;
  beforeAll(async () => {
    synapse = await startTestSynapse();
    room = await createPopulatedRoom({
      synapse,
      members: 6,
      roomVersion: '11',
      aliasLocalpart: 'wire',
      progress: () => undefined,
    });
  });
  afterAll(() => synapse.stop());

  /** Client, key ring and server of a homeserver that Synapse can reach. */
  async function startOurselves() {
    const [customCa, certificatePem, keyPem] = await Promise.all(
      [synapse.certificates.authorityFile, synapse.certificates.certificateFile, synapse.certificates.keyFile].map(
        (file) => readFile(file, 'utf8'),
      ),
    );
    const port = await freePort();
    const ourselves = `localhost:${port}` as ServerName;
    const client: FederationClient = createFederationClient({
      serverName: ourselves,
      signingKey: ourKey,
      addresses: { allowedRanges: ['127.0.0.0/8', '::1/128'] },
      customCa: customCa ?? '',
      timeouts: { connectMs: 5000, requestMs: 20_000, joinMs: 30_000, stateMs: 30_000, idleMs: 10_000 },
      limits: { responseBytesMax: 1_000_000, stateBytesMax: 10_000_000 },
      clock: systemClock,
      random: () => 0.5,
      userAgent: 'Rejoinder/test',
      logger: silent,
    });
    const stored: KnownKey[] = [];
    const keyRing = createKeyRing({
      serverName: ourselves,
      signingKey: ourKey,
      client,
      keyStore: {
        readKeys: (requests) =>
          Promise.resolve(
            stored.filter((key) => requests.some((r) => r.serverName === key.serverName && r.keyId === key.keyId)),
          ),
        storeKeys: (keys) => Promise.resolve(void stored.push(...keys)),
      },
      trustedKeyServers: [],
      clock: systemClock,
      logger: silent,
    });
    const pushed: { origin: ServerName; transaction: ReceivedTransaction }[] = [];
    let onPush = (): void => undefined;
    const server = createFederationServer({
      serverName: ourselves,
      signingKey: ourKey,
      tls: { certificatePem: certificatePem ?? '', keyPem: keyPem ?? '' },
      resolveKeys: keyRing.resolve,
      bodies: bodiesReadHere,
      ports: {
        receiveTransaction: (origin, _txnId, transaction) => {
          pushed.push({ origin, transaction });
          onPush();
          return Promise.resolve({ outcome: 'answered', response: { pdus: {} } });
        },
        roomStatus: () => Promise.resolve('partial'),
        statusOfEventsRoom: () => Promise.resolve('partial'),
      },
      clock: systemClock,
      logger: silent,
      version: 'test',
    });
    await server.listen({ port, host: '127.0.0.1' });
    const verification = createVerificationPool({ threads: 1 });
    onTestFinished(async () => {
      await Promise.all([client.close(), server.close(), verification.close()]);
    });
    const nextPush = (): Promise<void> => new Promise((resolve) => (onPush = resolve));
    return { ourselves, client, keyRing, verification, pushed, nextPush };
  }

  test('a room is joined without its members, its state fetched, and what it says is pushed to us', async () => {
    const { ourselves, client, keyRing, verification, pushed, nextPush } = await startOurselves();
    const resident = synapse.serverName as ServerName;
    const options = { signal };
    expect(await client.version(resident, options)).toMatchObject({ name: 'Synapse' });
    const { roomId, servers } = await client.queryDirectory(resident, room.alias as RoomAlias, options);
    expect([roomId, servers]).toEqual([room.roomId, [resident]]);

    const userId = `@me:${ourselves}` as UserId;
    const offered = ['10', '11'];
    const made = await client.makeJoin(resident, roomId, userId, offered, options);
    const reading = readJoinTemplate(made, offered, { roomId, userId });
    if (!reading.ok) throw new Error(reading.reason);
    const { template } = reading;
    const unsigned = buildJoinEvent(template, {
      roomId,
      userId,
      originServerTs: systemClock.now(),
      random: Math.random,
    });
    const event = signEvent(unsigned, template.rules, ourselves, ourKey);
    const joinEventId = eventIdOf(event, template.rules);
    const destination = sendJoinDestination(template, resident);
    const answer = await client.sendJoin(destination, roomId, joinEventId, event, { signal, omitMembers: true });

    const check = async (events: readonly Uint8Array[]): Promise<CheckedPdu[]> => {
      const input = { roomVersion: '11', roomId, events, resolveKeys: keyRing.resolve, capReferences: false, signal };
      const outcomes = await verification.check(input);
      expect(outcomes.map(({ outcome }) => outcome)).toEqual(events.map(() => 'passed'));
      return outcomes.flatMap((outcome) => (outcome.outcome === 'passed' ? [outcome.pdu] : []));
    };
    const { state, authChain } = await takeAnswer(answer, check);
    const header = answer.header();
    const verdict = checkJoinAnswer({
      template,
      roomId,
      joinEventId,
      ourselves,
      resident,
      omitMembersAsked: true,
      header,
      state,
      authChain,
      returnedEvent: undefined,
    });
    expect(verdict).toMatchObject({
      ok: true,
      membersOmitted: true,
      serversInRoom: [resident],
      state,
    });
    expect(state.some(({ type }) => type === 'm.room.member')).toBe(false);

    const prev = template.prevEventIds[0] as EventId;
    const ids = await client.stateIds(resident, roomId, prev, rulesOf('11'), options);
    const whole: CheckedPdu[] = [];
    for await (const batch of await client.state(resident, roomId, prev, options)) {
      if (batch.array === 'pdus') whole.push(...(await check(batch.events)));
    }
    expect(whole.map(({ eventId }) => eventId).sort()).toEqual([...ids.stateIds].sort());
    expect(whole.filter(({ membership }) => membership === 'join')).toHaveLength(6);
    expect(await check([await client.event(resident, prev, options)])).toMatchObject([{ eventId: prev }]);
    const query = { earliestEvents: [], latestEvents: [joinEventId], limit: 5 };
    expect((await check(await client.getMissingEvents(resident, roomId, query, options))).length).toBeGreaterThan(0);

    const push = nextPush();
    const messageId = await room.owner.sendMessage(roomId, 'welcome');
    await push;
    const said = await check(rawPdus(pushed.map(({ transaction }) => transaction)));
    expect(pushed[0]?.origin).toBe(resident);
    expect(said.map(({ eventId }) => eventId)).toContain(messageId);
  });

  test('what does not exist, or is not allowed, is told apart', async () => {
    const { ourselves, client } = await startOurselves();
    const resident = synapse.serverName as ServerName;
    const alias = `#nowhere:${resident}` as RoomAlias;
    await expect(client.queryDirectory(resident, alias, { signal })).rejects.toMatchObject({ kind: 'not-found' });
    const stranger = client.stateIds(resident, room.roomId as never, '$x' as EventId, rulesOf('11'), { signal });
    await expect(stranger).rejects.toMatchObject({ kind: 'forbidden', errcode: 'M_FORBIDDEN' });
    const userId = `@me:${ourselves}` as UserId;
    await expect(client.makeJoin(resident, room.roomId as never, userId, ['1'], { signal })).rejects.toMatchObject({
      errcode: 'M_INCOMPATIBLE_ROOM_VERSION',
    });
  });
});

async function takeAnswer(
  answer: SendJoinStream,
  check: (events: readonly Uint8Array[]) => Promise<CheckedPdu[]>,
): Promise<{ state: CheckedPdu[]; authChain: CheckedPdu[] }> {
  const state: CheckedPdu[] = [];
  const authChain: CheckedPdu[] = [];
  for await (const { array, events } of answer) (array === 'state' ? state : authChain).push(...(await check(events)));
  return { state, authChain };
}
