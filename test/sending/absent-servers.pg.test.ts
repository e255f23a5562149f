import { afterAll, expect, onTestFinished, test, vi } from 'vitest';
import { FederationError } from '../../src/federation/error.ts';
import { type EventId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { sendEvent } from '../../src/rooms/send/send-event.ts';
import { startSending } from '../../src/sending/sending.ts';
import { createVerificationPool } from '../../src/verification/pool.ts';
import { A, B, BOB, ME, type PushedRoom, openPushedRoom } from '../rooms/receive/pushed-room.ts';
import { openTestStore } from '../support/postgres.ts';

const { store } = await openTestStore();
const verification = createVerificationPool({ threads: 1 });
afterAll(() => verification.close());

/** A room that we are in, of which servers get what we say unless they are down. */
async function startHere() {
  const here: PushedRoom = openPushedRoom(store, verification);
  const { room, push, taken } = here;
  await here.join(false);
  const [got, down] = [new Map<ServerName, JsonObject[]>(), new Set<ServerName>()];
  const sendTransaction = (server: ServerName, _txnId: string, content: JsonObject): Promise<void> => {
    if (down.has(server)) return Promise.reject(new FederationError(server, 'unreachable', 'it is down'));
    got.set(server, [...(got.get(server) ?? []), ...(content['pdus'] as unknown as JsonObject[])]);
    return Promise.resolve();
  };
  const context = { ...here.context, federation: { ...here.context.federation, sendTransaction } };
  const sending = startSending(context);
  onTestFinished(() => sending.close());
  const idsOf = (server: ServerName): EventId[] => (got.get(server) ?? []).map((pdu) => eventIdOf(pdu, room.rules));
  return {
    ...{ context, room, got, down, sending, idsOf },
    say: (type: string, content: JsonObject) => sendEvent(context, room.roomId, { sender: ME, type, content }),
    /** What other servers say has come to us. */
    hear: async (eventId: EventId) => {
      await push(B, [eventId]);
      await taken(eventId);
    },
    until: (server: ServerName, eventIds: readonly EventId[]) => {
      sending.poke();
      return vi.waitFor(() => expect(idsOf(server)).toEqual(eventIds), { timeout: 20_000, interval: 20 });
    },
    recover: (server: ServerName) => {
      down.delete(server);
      sending.heardFrom(server);
    },
  };
}

const message = (body: string): [string, JsonObject] => ['m.room.message', { body }];

test('a server that was down while it left and came back gets what was said while it was there, and nothing else', async () => {
  const here = await startHere();
  const { room, say, hear, until } = here;
  const first = await say(...message('to all'));
  await until(B, [first]);
  here.down.add(B);
  const missed = await say(...message('it is down'));
  await until(A, [first, missed]);
  await hear(room.say(BOB, 'm.room.member', { membership: 'leave' }, { stateKey: BOB }));
  const unheard = [await say(...message('it is out')), await say(...message('still'))];
  await until(A, [first, missed, ...unheard]);
  await hear(room.join(BOB));
  const back = await say(...message('it is back'));
  await until(A, [first, missed, ...unheard, back]);
  here.recover(B);
  await until(B, [first, missed, back]);
  const last = await say(...message('to all again'));
  await until(B, [first, missed, back, last]);
  expect(await store.query('SELECT FROM destination_skips')).toEqual([]);
});

test('it makes no difference to a server which of our events are shared out together', async () => {
  const here = await startHere();
  const { room, say, hear, until } = here;
  await here.sending.close();
  const first = await say(...message('one'));
  await hear(room.say(BOB, 'm.room.member', { membership: 'leave' }, { stateKey: BOB }));
  const unheard = await say(...message('two'));
  await hear(room.join(BOB));
  const third = await say(...message('three'));
  const other = startSending(here.context);
  onTestFinished(() => other.close());
  await until(A, [first, unheard, third]);
  await until(B, [first, third]);
});

test('what was taken back before a server got it is sent as the redaction leaves it, under its own id', async () => {
  const here = await startHere();
  const { say, until } = here;
  here.down.add(B);
  const said = await say(...message('hasty'));
  await until(A, [said]);
  expect(here.got.get(A)?.[0]).toMatchObject({ content: { body: 'hasty' } });
  const redaction = await say('m.room.redaction', { redacts: said });
  await until(A, [said, redaction]);
  here.recover(B);
  await until(B, [said, redaction]);
  const [taken] = here.got.get(B)!;
  expect([taken!['type'], taken!['content']]).toEqual(['m.room.message', {}]);
});
