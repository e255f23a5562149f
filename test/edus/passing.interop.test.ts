/** Who types and who has read what, between a user of ours and one of a real Synapse, in a room that is partial here. */
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type RejoinderProcesses, type ServeChild, startProcesses } from '../support/processes.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';

const missing = await whySynapseIsMissing();
const SOON = { timeout: 30_000, interval: 200 };
const V3 = '/_matrix/client/v3';
const LAZY = encodeURIComponent(JSON.stringify({ room: { state: { lazy_load_members: true } } }));

type Ask = (method: 'GET' | 'PUT' | 'POST', path: string, body?: JsonObject) => Promise<JsonObject>;

interface Synced {
  readonly next_batch: string;
  readonly rooms?: {
    readonly join?: Readonly<Record<string, { readonly ephemeral?: { readonly events: JsonObject[] } }>>;
  };
}

/** A client that keeps what has passed in a room. Each look goes on from the last: Synapse gives the same answer to the same token. */
class Looking {
  readonly #ask: Ask;
  readonly #roomId: string;
  readonly #receipts: JsonObject[] = [];
  #typing: unknown = [];
  #since = '';

  constructor(ask: Ask, roomId: string) {
    this.#ask = ask;
    this.#roomId = roomId;
  }

  async typing(): Promise<unknown> {
    await this.look();
    return this.#typing;
  }

  async hasRead(eventId: string, userId: string): Promise<boolean> {
    await this.look();
    return this.#receipts.some((content) => {
      const read = (content as Record<string, Record<string, JsonObject> | undefined>)[eventId]?.['m.read'];
      return read?.[userId] !== undefined;
    });
  }

  async look(): Promise<void> {
    const path = `${V3}/sync?timeout=0&filter=${LAZY}${this.#since}`;
    const answer = (await this.#ask('GET', path)) as unknown as Synced;
    this.#since = `&since=${answer.next_batch}`;
    for (const { type, content } of answer.rooms?.join?.[this.#roomId]?.ephemeral?.events ?? []) {
      if (type === 'm.typing') this.#typing = (content as JsonObject)['user_ids'];
      else this.#receipts.push(content as JsonObject);
    }
  }
}

describe.skipIf(missing !== undefined)('in a room of a real Synapse that is partial here', () => {
  let synapse: TestSynapse;
  let rejoinder: RejoinderProcesses;
  let serving: ServeChild;
  beforeAll(async () => {
    synapse = await startTestSynapse();
    rejoinder = await startProcesses(synapse);
    [serving] = await Promise.all([rejoinder.serve(), rejoinder.worker()]);
  });
  afterAll(async () => {
    await rejoinder.stop();
    await synapse.stop();
  });

  test('who types and who has read what is told both ways', async () => {
    const { owner, alias, roomId } = await createPopulatedRoom({
      ...{ synapse, members: 4, roomVersion: '11', aliasLocalpart: 'passing' },
      progress: () => undefined,
    });
    let token = '';
    const ours: Ask = async (method, path, body) => {
      const response = await fetch(`${serving.clientUrl}${path}`, {
        method,
        ...(token === '' ? {} : { headers: { authorization: `Bearer ${token}` } }),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
      return (await response.json()) as JsonObject;
    };
    const theirs: Ask = (method, path, body) => owner.call(method, path, body) as Promise<JsonObject>;
    const auth = { type: 'm.login.dummy' };
    const made = await ours('POST', `${V3}/register`, { username: 'me', password: 'correct horse', auth });
    token = made['access_token'] as string;
    const userId = made['user_id'] as string;
    const held = synapse.proxy.inject({
      match: /^GET \/_matrix\/federation\/v1\/state\//,
      fault: { kind: 'hold', afterBytes: 1_000 },
    });
    onTestFinished(() => {
      held.remove();
      held.release();
    });
    await ours('POST', `${V3}/join/${encodeURIComponent(alias)}`, {});
    await held.held;
    const room = `${V3}/rooms/${encodeURIComponent(roomId)}`;
    const isPartial = async () => (await rejoinder.ask(`/rooms/${encodeURIComponent(roomId)}`)).body['phase'];

    const here = new Looking(ours, roomId);
    await here.look();
    const owners = `${room}/typing/${encodeURIComponent(owner.userId)}`;
    const said = await owner.sendMessage(roomId, 'do you read me?');
    await theirs('PUT', owners, { typing: true, timeout: 60_000 });
    await expect.poll(() => here.typing(), SOON).toEqual([owner.userId]);
    await theirs('PUT', owners, { typing: false });
    await expect.poll(() => here.typing(), SOON).toEqual([]);
    await theirs('POST', `${room}/receipt/m.read/${encodeURIComponent(said)}`, {});
    await expect.poll(() => here.hasRead(said, owner.userId), SOON).toBe(true);

    const there = new Looking(theirs, roomId);
    await there.look();
    const mine = `${room}/typing/${encodeURIComponent(userId)}`;
    await ours('PUT', mine, { typing: true, timeout: 60_000 });
    await expect.poll(() => there.typing(), SOON).toEqual([userId]);
    await ours('PUT', mine, { typing: false });
    await expect.poll(() => there.typing(), SOON).toEqual([]);
    await ours('POST', `${room}/receipt/m.read/${encodeURIComponent(said)}`, { thread_id: 'main' });
    await expect.poll(() => there.hasRead(said, userId), SOON).toBe(true);
    expect(await isPartial()).toBe('fetching');
  }, 120_000);
});
