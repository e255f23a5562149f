import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { describe, expect, onTestFinished, test } from 'vitest';
import { checkJoinAnswer } from '../../src/federation/join-answer.ts';
import { authorizationOf } from '../../src/federation/request-auth.ts';
import { type EventBatch, type EventStream } from '../../src/federation/contract.ts';
import {
  type EventId,
  type KeyId,
  type RoomAlias,
  type ServerName,
  type UserId,
} from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { roomVersionRules } from '../../src/matrix/room-versions.ts';
import { signEvent } from '../../src/matrix/signing/signatures.ts';
import { signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { type CheckOutcome } from '../../src/verification/contract.ts';
import { type VerificationPool, createVerificationPool } from '../../src/verification/pool.ts';
import { failureOf, ourKey, signal, testClient } from '../federation/tls-server.ts';
import {
  type TestJoiner,
  type TestSimulator,
  startTestJoiner,
  startTestSimulator,
  staticAddressesOf,
} from '../support/simulator.ts';
import { rawPdus } from '../support/bodies.ts';

const options = { signal };
const version11 = roomVersionRules('11')!;

function testPool(): VerificationPool {
  const pool = createVerificationPool({ threads: 1 });
  onTestFinished(() => pool.close());
  return pool;
}

async function collect<Name extends string>(stream: EventStream<Name>): Promise<Record<Name, Uint8Array[]>> {
  const taken: Partial<Record<Name, Uint8Array[]>> = {};
  for await (const { array, events } of stream as AsyncIterable<EventBatch<Name>>) {
    (taken[array] ??= []).push(...events);
  }
  return taken as Record<Name, Uint8Array[]>;
}

/** Checks 1 to 3 as a joining server makes them, with keys from the notary. */
async function verify(
  pool: VerificationPool,
  { keyRing }: TestJoiner,
  { room }: TestSimulator,
  events: readonly Uint8Array[],
): Promise<readonly CheckOutcome[]> {
  const { roomId, roomVersion } = room;
  return pool.check({ roomVersion, roomId, events, resolveKeys: keyRing.resolve, capReferences: false, signal });
}

function passed(outcomes: readonly CheckOutcome[]) {
  const wrong = outcomes.filter(({ outcome }) => outcome !== 'passed');
  expect(wrong).toEqual([]);
  return outcomes.flatMap((outcome) => (outcome.outcome === 'passed' ? [outcome.pdu] : []));
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function ids(events: readonly Uint8Array[], rules = version11): EventId[] {
  return events.map((raw) => eventIdOf(JSON.parse(Buffer.from(raw).toString('utf8')) as JsonObject, rules));
}

function withoutSignatures(event: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(event).filter(([name]) => name !== 'signatures'));
}

/** A request that the product's client has no call for, signed by the joining server. Gives status and answer. */
async function ask(
  simulator: TestSimulator,
  joiner: TestJoiner,
  to: ServerName,
  uri: string,
  content?: JsonObject,
): Promise<{ readonly status: number; readonly answer: unknown }> {
  const method = content === undefined ? 'GET' : 'PUT';
  const signed = { method, uri, origin: joiner.serverName, destination: to, ...(content && { content }) };
  const outgoing = request({
    host: '127.0.0.1',
    port: simulator.port,
    servername: to,
    ca: simulator.authorityPem,
    agent: false,
    method,
    path: uri,
    headers: { host: to, authorization: authorizationOf(signed, ourKey) },
  });
  outgoing.end(content && JSON.stringify(content));
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const text = Buffer.concat((await response.toArray()) as Buffer[]).toString('utf8');
  return { status: response.statusCode!, answer: JSON.parse(text) as unknown };
}

/** Pushes one event as the joining server. Gives the answer. */
async function pushTo(simulator: TestSimulator, joiner: TestJoiner, to: ServerName, pdu: JsonObject): Promise<unknown> {
  const content = { origin: joiner.serverName, origin_server_ts: 1, pdus: [pdu] };
  return (await ask(simulator, joiner, to, '/_matrix/federation/v1/send/1', content)).answer;
}

describe('a join', () => {
  test('finds the room by its alias', async () => {
    const simulator = await startTestSimulator();
    const { client } = await startTestJoiner(simulator);
    const [resident] = simulator.residents as [ServerName];
    const { roomId, servers } = await client.queryDirectory(resident, simulator.room.alias as RoomAlias, options);
    expect(roomId).toBe(simulator.room.roomId);
    expect(servers.slice(0, 3)).toEqual(simulator.residents);
    expect(servers).toHaveLength(8);
    const failure = await failureOf(client.queryDirectory(resident, `#none:${resident}` as RoomAlias, options));
    expect(failure).toMatchObject({ kind: 'not-found' });
  });

  test.each(['1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', '12'])(
    'without memberships in version %s is answered as a joining server wants it',
    async (roomVersion) => {
      const simulator = await startTestSimulator({ roomVersion });
      const joiner = await startTestJoiner(simulator, [roomVersion]);
      const [resident] = simulator.residents as [ServerName];
      const { roomId } = simulator.room;
      const prepared = await joiner.prepareJoin(resident, roomId);
      const { eventId, event, template } = prepared;
      const answer = await joiner.client.sendJoin(resident, roomId, eventId, event, { ...options, omitMembers: true });
      const given = await collect(answer);

      const pool = testPool();
      const state = passed(await verify(pool, joiner, simulator, given.state));
      const authChain = passed(await verify(pool, joiner, simulator, given.auth_chain));
      const header = answer.header();
      const verdict = checkJoinAnswer({
        template,
        roomId,
        joinEventId: eventId,
        ourselves: joiner.serverName,
        resident,
        omitMembersAsked: true,
        header,
        state,
        authChain,
        returnedEvent: undefined,
      });
      expect(verdict).toMatchObject({ ok: true, membersOmitted: true });
      expect(verdict.ok && verdict.state.length).toBe(state.length);
      expect(header.serversInRoom).toHaveLength(9);
      expect(eventIdOf(JSON.parse(Buffer.from(header.event!).toString('utf8')) as JsonObject, template.rules)).toBe(
        eventId,
      );
      expect(state.filter(({ type }) => type === 'm.room.member')).toEqual([]);
      expect(state.map(({ type }) => type)).toEqual(expect.arrayContaining(['m.room.create', 'm.room.power_levels']));
      const inBoth = authChain.filter((pdu) => state.some((other) => other.eventId === pdu.eventId));
      expect(inBoth).toEqual([]);
      expect((await simulator.digest(roomId)).joined).toBe(31);
    },
  );

  test('with memberships gives the whole state before it', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const [resident] = simulator.residents as [ServerName];
    const { roomId, stateEvents } = simulator.room;
    const { eventId, event } = await joiner.prepareJoin(resident, roomId);
    const answer = await joiner.client.sendJoin(resident, roomId, eventId, event, { ...options, omitMembers: false });
    const { state } = await collect(answer);
    expect(state).toHaveLength(stateEvents);
    expect(answer.header().membersOmitted).toBe(false);
    passed(await verify(testPool(), joiner, simulator, state));
  });

  test('of one who comes back carries the earlier membership', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const [resident, other] = simulator.residents as [ServerName, ServerName];
    const { roomId } = simulator.room;
    const first = await joiner.join(resident, roomId);
    const again = await joiner.prepareJoin(other, roomId);
    const { eventId, event } = again;
    const answer = await joiner.client.sendJoin(other, roomId, eventId, event, { ...options, omitMembers: true });
    const { state } = await collect(answer);
    expect(ids(state)).toContain(first.eventId);
  });

  test('sent again after a lost answer is answered again', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const [resident] = simulator.residents as [ServerName];
    const { roomId } = simulator.room;
    const { eventId, event } = await joiner.join(resident, roomId);
    const before = await simulator.digest(roomId);
    const answer = await joiner.client.sendJoin(resident, roomId, eventId, event, { ...options, omitMembers: true });
    expect((await collect(answer)).state.length).toBeGreaterThan(0);
    expect(await simulator.digest(roomId)).toEqual(before);
  });

  test('is refused when it is badly signed, of another server, or of one who is banned', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const [resident] = simulator.residents as [ServerName];
    const { roomId } = simulator.room;
    const { event, template } = await joiner.prepareJoin(resident, roomId);
    const sent = async (join: JsonObject): Promise<unknown> =>
      failureOf(
        joiner.client.sendJoin(resident, roomId, eventIdOf(join, template.rules), join, {
          ...options,
          omitMembers: true,
        }),
      );
    const unsigned = withoutSignatures(event);
    const wrongKey = { ...ourKey, keyId: 'ed25519:other' as KeyId };
    expect(await sent(signEvent(unsigned, template.rules, joiner.serverName, wrongKey))).toMatchObject({ status: 403 });
    const stranger = `@stranger:${resident}`;
    const forged = { ...unsigned, sender: stranger, state_key: stranger };
    expect(await sent(signEvent(forged, template.rules, joiner.serverName, ourKey))).toMatchObject({ status: 403 });

    const { creator } = simulator.room;
    const content = { membership: 'ban' };
    await simulator.emit(roomId, [{ sender: creator, type: 'm.room.member', stateKey: joiner.userId, content }]);
    expect(await sent(event)).toMatchObject({ status: 403, errcode: 'M_FORBIDDEN' });
    expect(await failureOf(joiner.prepareJoin(resident, roomId))).toMatchObject({ status: 403 });
  });

  test('in a room version that was not offered is refused with its name', async () => {
    const simulator = await startTestSimulator({ roomVersion: '9' });
    const { client, userId } = await startTestJoiner(simulator);
    const [resident] = simulator.residents as [ServerName];
    const failure = await failureOf(client.makeJoin(resident, simulator.room.roomId, userId, ['10', '11'], options));
    expect(failure).toMatchObject({ status: 400, errcode: 'M_INCOMPATIBLE_ROOM_VERSION' });
  });
});

describe('state', () => {
  test('before a join is what the digest of the simulator says, once the join is added', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const [resident, other] = simulator.residents as [ServerName, ServerName];
    const { roomId, stateEvents } = simulator.room;
    const { eventId, template } = await joiner.join(resident, roomId);

    // Joined through one resident, known to all.
    const named = await joiner.client.stateIds(other, roomId, eventId, version11, options);
    const [stateIds, authChainIds] = [[...named.stateIds], [...named.authChainIds]];
    expect(stateIds).toHaveLength(stateEvents);
    const given = await collect(await joiner.client.state(other, roomId, eventId, options));
    expect(ids(given.pdus)).toEqual(stateIds);
    expect(ids(given.auth_chain)).toEqual(authChainIds);
    passed(await verify(testPool(), joiner, simulator, [...given.pdus, ...given.auth_chain]));

    const { digest, events, joined } = await simulator.digest(roomId);
    expect(sha256([...stateIds, eventId].sort().join('\n'))).toBe(digest);
    expect({ events, joined }).toEqual({ events: stateEvents + 1, joined: 31 });
    // At the event that the join stands on there is the same state: it is a message.
    const [parent] = template.prevEventIds as [EventId];
    const before = await joiner.client.stateIds(other, roomId, parent, version11, options);
    expect([...before.stateIds].sort()).toEqual([...stateIds].sort());
  });

  test('and events are for servers in the room only', async () => {
    const simulator = await startTestSimulator();
    const [joiner, stranger] = [await startTestJoiner(simulator), await startTestJoiner(simulator)];
    const [resident] = simulator.residents as [ServerName];
    const { roomId } = simulator.room;
    const { eventId } = await joiner.join(resident, roomId);
    const { client } = stranger;
    const asked = [
      client.stateIds(resident, roomId, eventId, version11, options),
      client.state(resident, roomId, eventId, options),
      client.event(resident, eventId, options),
    ];
    for (const failing of asked) {
      expect(await failureOf(failing)).toMatchObject({ status: 403, errcode: 'M_FORBIDDEN' });
    }
    const unknown = `$${'x'.repeat(43)}` as EventId;
    for (const failing of [
      joiner.client.state(resident, roomId, unknown, options),
      joiner.client.event(resident, unknown, options),
    ]) {
      expect(await failureOf(failing)).toMatchObject({ status: 404, errcode: 'M_NOT_FOUND' });
    }
  });

  test('has single events at their senders own servers', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const { roomId } = simulator.room;
    const { eventId } = await joiner.join(simulator.residents[0]!, roomId);
    const speakers = await simulator.speakers(roomId, 30);
    const speaker = speakers.find((userId) => userId.includes(':hs'))!;
    const server = speaker.slice(speaker.indexOf(':') + 1) as ServerName;
    const [said] = await simulator.emit(roomId, [{ sender: speaker, type: 'm.room.message', content: { body: 'a' } }]);
    const raw = await joiner.client.event(server, said!, options);
    expect(ids([raw])).toEqual([said]);
    passed(await verify(testPool(), joiner, simulator, [raw]));
    expect(await joiner.client.version(server, options)).toMatchObject({ name: 'Rejoinder simulator' });
    const gap = await joiner.client.getMissingEvents(
      server,
      roomId,
      { earliestEvents: [], latestEvents: [said!], limit: 2 },
      options,
    );
    // Oldest first: the join is what the message stands on.
    expect(ids(gap).at(-1)).toBe(eventId);
    expect(gap).toHaveLength(2);
  });
});

describe('what our client does not ask for', () => {
  test('is answered as well: earlier events, auth chains, profiles, devices, version 1 of send_join', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const [resident] = simulator.residents as [ServerName];
    const { roomId, creator } = simulator.room;
    const prepared = await joiner.prepareJoin(resident, roomId);
    const { eventId, event, template } = prepared;
    const get = async (uri: string): Promise<JsonObject> =>
      (await ask(simulator, joiner, resident, uri)).answer as JsonObject;
    const idsOf = (events: unknown): EventId[] => (events as JsonObject[]).map((json) => eventIdOf(json, version11));
    const [room, at] = [encodeURIComponent(roomId), encodeURIComponent(eventId)];

    const old = await ask(simulator, joiner, resident, `/_matrix/federation/v1/send_join/${room}/${at}`, event);
    const [status, state] = old.answer as [number, JsonObject];
    expect([old.status, status]).toEqual([200, 200]);
    expect(state['state']).toHaveLength(simulator.room.stateEvents);

    const backfilled = await get(`/_matrix/federation/v1/backfill/${room}?v=${at}&limit=4`);
    expect(idsOf(backfilled['pdus']).slice(0, 2)).toEqual([eventId, template.prevEventIds[0]]);
    expect(backfilled['pdus']).toHaveLength(4);

    const { auth_chain: authChain } = await get(`/_matrix/federation/v1/event_auth/${room}/${at}`);
    expect(idsOf(authChain)).toEqual(expect.arrayContaining([...template.authEventIds]));

    const user = encodeURIComponent(creator);
    expect(await get(`/_matrix/federation/v1/query/profile?user_id=${user}`)).toHaveProperty('displayname');
    expect(await get(`/_matrix/federation/v1/user/devices/${user}`)).toMatchObject({ user_id: creator, devices: [] });
    expect(await get('/_matrix/key/v2/query/hs1.federation.test')).toMatchObject({
      server_keys: [{ server_name: 'hs1.federation.test' }],
    });
  });

  test('and what there is no endpoint for is refused', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const [resident] = simulator.residents as [ServerName];
    const refused = async (uri: string, content?: JsonObject): Promise<unknown> => {
      const { status, answer } = await ask(simulator, joiner, resident, uri, content);
      return [status, (answer as JsonObject)['errcode']];
    };
    expect(await refused('/_matrix/federation/v1/publicRooms')).toEqual([404, 'M_UNRECOGNIZED']);
    expect(await refused('/_matrix/federation/v1/version', {})).toEqual([405, 'M_UNRECOGNIZED']);
    expect(await refused('/_matrix/federation/v1/event/%ff')).toEqual([400, 'M_INVALID_PARAM']);
    expect(await refused('/_matrix/federation/v1/state/nonsense?event_id=$x')).toEqual([400, 'M_INVALID_PARAM']);
    const tooMany = { origin: joiner.serverName, pdus: Array.from({ length: 51 }, () => ({})) };
    expect(await refused('/_matrix/federation/v1/send/1', tooMany)).toEqual([400, 'M_BAD_JSON']);
  });
});

describe('keys', () => {
  test('of every server come from a notary, signed by both, in few and quick answers', async () => {
    const simulator = await startTestSimulator({ members: 700, servers: 650 });
    const { client, keyRing } = await startTestJoiner(simulator);
    const servers = Array.from({ length: 647 }, (_, i) => `hs${i + 1}.${simulator.domain}` as ServerName);
    const wanted = servers.map((serverName) => ({ serverName, minimumValidUntilTs: 0 }));
    const answers = await client.notaryQuery(simulator.residents[1]!, wanted, options);
    const keyIds = new Map(
      answers.map((answer) => [answer['server_name'], Object.keys(answer['verify_keys'] as JsonObject)[0] as KeyId]),
    );
    const own = await client.serverKeys(servers[5]!, options);
    expect(Object.keys(own['verify_keys'] as JsonObject)).toEqual([keyIds.get(servers[5])]);
    await simulator.resetCounts();
    const validAtTs = Date.now() + 6 * 86_400_000;
    const requests = servers.map((serverName) => ({ serverName, keyId: keyIds.get(serverName)!, validAtTs }));
    const found = await keyRing.resolve(requests, signal);
    expect(found).toHaveLength(647);
    const counts = await simulator.counts();
    const asked = counts.filter(({ endpoint }) => endpoint === 'notary_query');
    expect(asked).toEqual([expect.objectContaining({ requests: 3, failed: 0, keyServers: 647 })]);
    const asThemselves = counts.filter(({ endpoint }) => endpoint === 'server_keys');
    expect(asThemselves.map(({ server }) => server)).toEqual([simulator.residents[0]]);
  });

  test('of servers that are not simulated are not known', async () => {
    const simulator = await startTestSimulator();
    const { client, serverName } = await startTestJoiner(simulator);
    const wanted = ['hs1.federation.test', serverName, 'elsewhere.test'] as ServerName[];
    const answers = await client.notaryQuery(
      simulator.residents[1]!,
      wanted.map((name) => ({ serverName: name, minimumValidUntilTs: 0 })),
      options,
    );
    expect(answers.map((answer) => answer['server_name'])).toEqual(['hs1.federation.test']);
  });
});

describe('a request', () => {
  test('without a good signature is refused, and one to no server of ours too', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const [resident] = simulator.residents as [ServerName];
    const stranger = await testClient({
      serverName: 'localhost:1' as ServerName,
      customCa: simulator.authorityPem,
      staticAddresses: staticAddressesOf(simulator),
    });
    const { roomId, alias } = simulator.room;
    expect(await failureOf(stranger.queryDirectory(resident, alias as RoomAlias, options))).toMatchObject({
      status: 401,
    });
    const liar = await testClient({
      serverName: joiner.serverName,
      signingKey: signingKeyFromSeed(ourKey.keyId, Buffer.alloc(32, 9)),
      customCa: simulator.authorityPem,
      staticAddresses: staticAddressesOf(simulator),
    });
    expect(await failureOf(liar.queryDirectory(resident, alias as RoomAlias, options))).toMatchObject({ status: 401 });
    const nobody = `resident9.${simulator.domain}` as ServerName;
    expect(await failureOf(joiner.client.makeJoin(nobody, roomId, joiner.userId, ['11'], options))).toMatchObject({
      status: 404,
      errcode: 'M_UNRECOGNIZED',
    });
    const failed = (await simulator.counts()).map(({ server, endpoint, requests, failed }) => [
      server,
      endpoint,
      requests,
      failed,
    ]);
    expect(failed).toEqual([[resident, 'query_directory', 2, 2]]);
  });
});

describe('new events', () => {
  test('are pushed to whoever has joined, in their order, signed by the servers of their senders', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const { roomId } = simulator.room;
    const [resident] = simulator.residents as [ServerName];
    const speakers = await simulator.speakers(roomId, 2);
    const message = (sender: UserId, body: string) => ({ sender, type: 'm.room.message', content: { body } });
    await simulator.emit(roomId, [message(speakers[0]!, 'before the join')]);
    await joiner.join(resident, roomId);
    const drafts = [
      ...Array.from({ length: 70 }, (_, i) => message(speakers[0]!, `a${i}`)),
      ...Array.from({ length: 5 }, (_, i) => message(speakers[1]!, `b${i}`)),
    ];
    const eventIds = await simulator.emit(roomId, drafts);
    await simulator.pushesSettled();
    expect(joiner.received.map(({ transaction }) => transaction.pdus.length)).toEqual([50, 20, 5]);
    expect(ids(rawPdus(joiner.received.map(({ transaction }) => transaction)))).toEqual(eventIds);
    expect(joiner.received.map(({ origin }) => origin)).toEqual(
      [speakers[0]!, speakers[0]!, speakers[1]!].map((userId) => userId.slice(userId.indexOf(':') + 1)),
    );
    passed(await verify(testPool(), joiner, simulator, rawPdus(joiner.received.map(({ transaction }) => transaction))));

    // What puts it out of the room is the last that it hears.
    joiner.received.length = 0;
    const kick = { membership: 'leave' };
    const { creator } = simulator.room;
    const [kicked] = await simulator.emit(roomId, [
      { sender: creator, type: 'm.room.member', stateKey: joiner.userId, content: kick },
      message(speakers[0]!, 'after the kick'),
    ]);
    await simulator.pushesSettled();
    expect(ids(rawPdus(joiner.received.map(({ transaction }) => transaction)))).toEqual([kicked]);
    expect(await failureOf(joiner.client.event(resident, kicked!, options))).toMatchObject({ status: 403 });
  });

  test('a join of another server is told to those that joined before', async () => {
    const simulator = await startTestSimulator();
    const [first, second] = [await startTestJoiner(simulator), await startTestJoiner(simulator)];
    const [resident, other] = simulator.residents as [ServerName, ServerName];
    const { roomId } = simulator.room;
    await first.join(resident, roomId);
    const { eventId } = await second.join(other, roomId);
    await simulator.pushesSettled();
    expect(first.received.map(({ origin, transaction }) => [origin, ids(rawPdus([transaction]))])).toEqual([
      [other, [eventId]],
    ]);
    expect(second.received).toEqual([]);
  });

  test('a push that is refused is counted as failed', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const { roomId } = simulator.room;
    await joiner.join(simulator.residents[0]!, roomId);
    joiner.refusal = 'not today';
    const [sender] = await simulator.speakers(roomId, 1);
    await simulator.emit(roomId, [{ sender: sender!, type: 'm.room.message', content: {} }]);
    await simulator.pushesSettled();
    const pushed = (await simulator.counts()).filter(({ direction }) => direction === 'sent');
    expect(pushed).toEqual([expect.objectContaining({ endpoint: 'send', requests: 1, failed: 1 })]);
  });

  test('a departure that the joining server pushes takes it out of the room, once', async () => {
    const simulator = await startTestSimulator();
    const joiner = await startTestJoiner(simulator);
    const { roomId } = simulator.room;
    const [resident, other] = simulator.residents as [ServerName, ServerName];
    const { eventId, template, event } = await joiner.join(resident, roomId);
    const { pdus } = await collect(await joiner.client.state(resident, roomId, eventId, options));
    const cited = ids(
      pdus.filter((raw) => /"type":"m\.room\.(create|power_levels)"/.test(Buffer.from(raw).toString())),
    );
    const join = withoutSignatures(event);
    const content = { membership: 'leave' };
    const draft = { ...join, content, prev_events: [eventId], auth_events: [...cited, eventId], depth: 1_000 };
    const leave = signEvent(draft, template.rules, joiner.serverName, ourKey);
    const push = (to: ServerName, pdu: JsonObject): Promise<unknown> => pushTo(simulator, joiner, to, pdu);
    const leaveId = eventIdOf(leave, template.rules);
    expect(await push(resident, leave)).toEqual({ pdus: { [leaveId]: {} } });
    expect(await push(other, leave)).toEqual({ pdus: { [leaveId]: {} } });
    expect((await simulator.digest(roomId)).joined).toBe(30);
    const again = signEvent({ ...draft, depth: 1_001 }, template.rules, joiner.serverName, ourKey);
    expect(await push(other, again)).toMatchObject({
      pdus: { [eventIdOf(again, template.rules)]: { error: expect.any(String) } },
    });
  });
});
