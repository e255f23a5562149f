/** A join that comes with the whole state, over parents that we do not hold: what is known of the state after each of them. */
import { expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { admitEvents } from '../../../src/rooms/judge/admit.ts';
import { checkEvents, passed } from '../../../src/rooms/judge/check-events.ts';
import { readEventStates } from '../../../src/store/events/event-states.ts';
import { readGaps } from '../../../src/store/events/gaps.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { readRoom } from '../../../src/store/journal/rooms.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import {
  ALICE,
  BOB,
  type Script,
  type ScriptedRejoinder,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../../support/scripted-room.ts';

/** Alice raised what it takes to speak, and Bob, who had not seen it, changed the topic of his own branch: two newest events. */
function forkedRoom() {
  const small = smallRoom();
  const { room, create, aliceJoin, levels, rule, bobJoin, message } = small;
  const raised = room.make(
    ALICE,
    'm.room.power_levels',
    '',
    { users: { [ALICE]: 100 }, events_default: 50 },
    { prev: [message], auth: [create, levels, aliceJoin] },
  );
  const parts = { prev: [message], auth: [create, levels, bobJoin] };
  const spoken = room.make(BOB, 'm.room.message', undefined, { body: 'hello' }, parts);
  const later = { prev: [spoken], auth: [create, levels, bobJoin] };
  const next = room.make(BOB, 'm.room.message', undefined, { body: 'and I have seen nothing' }, later);
  const state = [create, aliceJoin, raised, rule, bobJoin];
  const script: Script = {
    ...honestScript(small),
    isWhole: true,
    prev: [raised, spoken],
    auth: [create, raised, rule],
    returned: state,
    returnedChain: [levels],
    stateIds: (server, at) =>
      at === raised || at === spoken
        ? { state: small.state, chain: [create, levels, rule, aliceJoin] }
        : refuse(server, 'not-found'),
    state: () => small.state.map((eventId) => room.raw(eventId)),
  };
  return { small, script, raised, spoken, next, state };
}

async function push(here: ScriptedRejoinder, { room }: ReturnType<typeof smallRoom>, eventId: EventId): Promise<void> {
  const { roomId, rules } = room;
  const isHeld = () => Promise.resolve(new Set<EventId>());
  const signal = new AbortController().signal;
  const input = { roomId, rules, events: [room.raw(eventId)], isHeld, capReferences: true, signal };
  await insertPdus(here.store, passed(await checkEvents(here.context, input)));
  await admitEvents(here.context, roomId, [eventId]);
}

test('of several parents each is asked for the state after it, and what was judged by a guess is corrected', async () => {
  const { small, script, raised, spoken, next, state } = forkedRoom();
  const { roomId } = small.room;
  const here = await startScripted(small.room, script);
  const join = await here.join();
  expect(await here.state()).toMatchObject({ phase: 'complete', members: 3, gapsOpen: 2 });
  expect((await readGaps(here.store, roomId)).map(({ eventId }) => eventId).sort()).toEqual([raised, spoken].sort());
  expect(here.rung).toEqual([roomId]);
  await push(here, small, next);
  const statesOf = async (eventId: EventId) => (await readEventStates(here.store, roomId, [eventId])).get(eventId)!;
  // By the state before our join, which stands for the one after Bob's message, he may not speak.
  expect(await statesOf(next)).toMatchObject({ verdict: 'rejected' });

  await here.resync();
  expect(await readGaps(here.store, roomId)).toEqual([]);
  expect(await statesOf(next)).toMatchObject({ verdict: 'accepted' });
  const before = await readSnapshot(here.store, roomId, (await statesOf(next)).stateBefore);
  expect(before.map(({ eventId }) => eventId).sort()).toEqual([...small.state].sort());
  // The join keeps what it had: the states after its parents resolve to it.
  const ofJoin = await readSnapshot(here.store, roomId, (await statesOf(join)).stateBefore);
  expect(ofJoin.map(({ eventId }) => eventId).sort()).toEqual([...state].sort());
  expect(await readRoom(here.store, roomId)).toMatchObject({ partial: false });
});

test('of a single parent the state is the one before the join: nobody is asked', async () => {
  const { small, script, raised } = forkedRoom();
  const here = await startScripted(small.room, { ...script, prev: [raised] });
  await here.join();
  expect(await readGaps(here.store, small.room.roomId)).toEqual([]);
  expect(here.rung).toEqual([]);
});
