/** The state of a join by the word of two servers, over a real database. */
import { describe, expect, test } from 'vitest';
import { stateDigest } from '../../../src/matrix/state-digest.ts';
import { type ResyncEvent } from '../../../src/resync/events.ts';
import { explain } from '../../../src/resync/explain.ts';
import { readResyncEvents } from '../../../src/store/journal/journal.ts';
import {
  A,
  ALICE,
  B,
  C,
  type Script,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../../support/scripted-room.ts';

type Fetched = Extract<ResyncEvent, { type: 'StateFetched' }>;

async function compared(change: (script: Script, small: ReturnType<typeof smallRoom>) => void) {
  const small = smallRoom();
  const script: Script = { ...honestScript(small), serversInRoom: [A, B, C] };
  const here = await startScripted(small.room, script);
  Object.assign(here.context, { policy: { ...here.context.policy, stateQuorum: 2 } });
  await here.join();
  change(script, small);
  const state = await here.resync();
  const events = await readResyncEvents(here.store, small.room.roomId, 1, 0);
  const fetched = events.map(({ event }) => event).find((event): event is Fetched => event.type === 'StateFetched')!;
  return { small, here, state, fetched };
}

describe('a state that a second server is asked for', () => {
  test('is what both say where they agree, and little is asked for it', async () => {
    const { small, here, state, fetched } = await compared(() => undefined);
    expect(state).toMatchObject({ phase: 'complete', digest: stateDigest(small.state) });
    expect(fetched.compared).toEqual({ wanted: 2, residents: [A, B], differing: 0 });
    expect(here.asked.filter((what) => what.startsWith(B))).toEqual([`${B} state_ids ${small.message}`]);
    expect(explain(fetched)).toContain(`; compared with that of ${B}: they agree`);
  });

  test('is resolved where they differ, with what only one of them has: nobody is outvoted', async () => {
    const { small, state, fetched } = await compared(
      (script, { room, state: known, create, levels, aliceJoin, message }) => {
        const topic = room.make(
          ALICE,
          'm.room.topic',
          '',
          { topic: 'which A has not' },
          { prev: [message], auth: [create, levels, aliceJoin] },
        );
        const honest = script.stateIds;
        script.stateIds = async (server, at) => {
          const answer = await honest(server, at);
          return server === B ? { ...answer, state: [...known, topic] } : answer;
        };
      },
    );
    expect(fetched.compared).toEqual({ wanted: 2, residents: [A, B], differing: 1 });
    const topic = [...small.room.events].find(([, { type }]) => type === 'm.room.topic')![0];
    expect(state).toMatchObject({ phase: 'complete', digest: stateDigest([...small.state, topic]) });
    expect(explain(fetched)).toContain('1 places differ, and were resolved');
  });

  test('is that of the first where nobody else gives it, and the journal says so', async () => {
    const { small, here, state, fetched } = await compared((script) => {
      const honest = script.stateIds;
      script.stateIds = (server, at) => (server === A ? honest(server, at) : refuse(server, 'server-error'));
    });
    expect(state).toMatchObject({ phase: 'complete', digest: stateDigest(small.state) });
    expect(fetched.compared).toEqual({ wanted: 2, residents: [A], differing: 0 });
    expect(here.asked.some((what) => what.startsWith(C))).toBe(true);
    expect(explain(fetched)).toContain('nobody gave it in time');
  });
});
