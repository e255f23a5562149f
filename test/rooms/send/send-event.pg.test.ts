import { expect, test } from 'vitest';
import { type Draft } from '../../../src/matrix/compose.ts';
import { type EventId, type UserId } from '../../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { sendEvent } from '../../../src/rooms/send/send-event.ts';
import { readEventStates } from '../../../src/store/events/event-states.ts';
import { readPdus } from '../../../src/store/events/pdus.ts';
import { readStanding } from '../../../src/store/journal/rooms.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { seededRandom } from '../../../src/simulator/seeded-random.ts';
import { ME, type ScriptedRejoinder, US, honestScript, smallRoom, startScripted } from '../../support/scripted-room.ts';
import { statementsOf } from '../../support/statements.ts';

const text = (body: string): Draft => ({ sender: ME, type: 'm.room.message', content: { msgtype: 'm.text', body } });

async function inPartialRoom(version = '11'): Promise<ScriptedRejoinder & { readonly roomId: SmallRoomId }> {
  const small = smallRoom(version);
  const here = await startScripted(small.room, honestScript(small));
  await here.join();
  // Names of versions 1 and 2 are drawn.
  const random = seededRandom(7, 'ids');
  const context = { ...here.context, random: () => random.fraction() };
  return { ...here, context, roomId: small.room.roomId };
}
type SmallRoomId = ReturnType<typeof smallRoom>['room']['roomId'];

async function bodyOf({ store, roomId }: Awaited<ReturnType<typeof inPartialRoom>>, eventId: EventId) {
  const [event] = await readPdus(store, roomId, [eventId]);
  return JSON.parse(event!.json) as JsonObject;
}

test.each(['1', '5', '11'])(
  'a message goes into a partial room of version %s at once, on top of its newest event',
  async (version) => {
    const here = await inPartialRoom(version);
    const { context, store, roomId } = here;
    const { extremities } = (await readStanding(store, roomId))!;
    const first = await sendEvent(context, roomId, text('one'));
    const second = await sendEvent(context, roomId, text('two'));
    expect((await readStanding(store, roomId))!.extremities).toEqual([second]);
    const states = await readEventStates(store, roomId, [first, second]);
    expect(states.get(first)).toMatchObject({
      verdict: 'accepted',
      softFailed: false,
      partial: true,
      prevEvents: extremities,
    });
    expect(states.get(second)).toMatchObject({ verdict: 'accepted', prevEvents: [first] });
    expect(await bodyOf(here, second)).toMatchObject({ content: { body: 'two' }, sender: ME, room_id: roomId });
    expect(await here.resync()).toMatchObject({ phase: 'complete' });
    expect((await readEventStates(store, roomId, [second])).get(second)).toMatchObject({
      verdict: 'accepted',
      partial: false,
    });
  },
);

test('the same transaction of the same device gives the same event, in every process', async () => {
  const { context, store, roomId } = await inPartialRoom();
  const transaction = { userId: ME, deviceId: 'PHONE', roomId, txnId: 'm1\u0001' };
  const first = await sendEvent(context, roomId, text('one'), { transaction });
  const again = await Promise.all([1, 2, 3].map(() => sendEvent(context, roomId, text('one'), { transaction })));
  expect(again).toEqual([first, first, first]);
  const other = await sendEvent(context, roomId, text('one'), { transaction: { ...transaction, deviceId: 'LAPTOP' } });
  expect(other).not.toBe(first);
  const racing = { ...transaction, txnId: 'm2' };
  const raced = await Promise.all(
    [1, 2, 3].map(() => sendEvent(context, roomId, text('two'), { transaction: racing })),
  );
  expect(new Set(raced).size).toBe(1);
  expect((await readStanding(store, roomId))!.extremities).toEqual([raced[0]]);
});

test('what the rules refuse is refused, and leaves nothing behind', async () => {
  const { context, store, roomId } = await inPartialRoom();
  const before = await readStanding(store, roomId);
  const counted = (): Promise<object[]> => store.query('SELECT count(*) FROM pdus');
  const held = await counted();
  const name: Draft = { sender: ME, type: 'm.room.name', stateKey: '', content: { name: 'mine' } };
  await expect(sendEvent(context, roomId, name)).rejects.toMatchObject({ kind: 'forbidden' });
  const stranger = { ...text('hello'), sender: `@stranger:${US}` as UserId };
  await expect(sendEvent(context, roomId, stranger)).rejects.toMatchObject({ kind: 'forbidden' });
  const elsewhere = '!elsewhere:us.test' as typeof roomId;
  await expect(sendEvent(context, elsewhere, text('hello'))).rejects.toMatchObject({ kind: 'forbidden' });
  const long = text('x'.repeat(66_000));
  await expect(sendEvent(context, roomId, long)).rejects.toMatchObject({ kind: 'too-large' });
  const float: Draft = { ...text('x'), content: { number: 1.5 } };
  await expect(sendEvent(context, roomId, float)).rejects.toMatchObject({ kind: 'malformed' });
  expect(await readStanding(store, roomId)).toEqual(before);
  expect(await counted()).toEqual(held);
  await sendEvent(context, roomId, text('and goes on'));
});

test('state that is so already is not said again', async () => {
  const { context, store, roomId } = await inPartialRoom();
  const profile = (displayname: string): Draft => {
    return { sender: ME, type: 'm.room.member', stateKey: ME, content: { membership: 'join', displayname } };
  };
  const first = await sendEvent(context, roomId, profile('Me'));
  expect(await sendEvent(context, roomId, profile('Me'))).toBe(first);
  const second = await sendEvent(context, roomId, profile('\0 Myself'));
  const { currentState } = (await readStanding(store, roomId))!;
  const [member] = await readSnapshot(store, roomId, currentState!, { userIds: [ME] });
  expect(member).toMatchObject({ eventId: second, membership: 'join' });
});

test('many at once are all in, one after the other or beside each other, each on at most twenty parents', async () => {
  const { context, store, roomId } = await inPartialRoom();
  const sent = await Promise.all(Array.from({ length: 12 }, (_, i) => sendEvent(context, roomId, text(`${i}`))));
  const states = await readEventStates(store, roomId, sent);
  expect([...states.values()].map(({ verdict }) => verdict)).toEqual(sent.map(() => 'accepted'));
  expect((await readStanding(store, roomId))!.extremities).toHaveLength(1);
});

test('a message takes at most 22 statements, in a partial room and in a whole one', async () => {
  const here = await inPartialRoom();
  const { context, roomId } = here;
  const transaction = (txnId: string) => ({ transaction: { userId: ME, deviceId: 'PHONE', roomId, txnId } });
  await sendEvent(context, roomId, text('first'));
  const partial = await statementsOf(() => sendEvent(context, roomId, text('second'), transaction('2')));
  expect(partial.length, partial.join('\n\n')).toBeLessThanOrEqual(22);
  await here.resync();
  await sendEvent(context, roomId, text('third'));
  const whole = await statementsOf(() => sendEvent(context, roomId, text('fourth'), transaction('4')));
  expect(whole.length, whole.join('\n\n')).toBeLessThanOrEqual(22);
});
