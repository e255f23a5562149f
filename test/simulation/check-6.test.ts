/** The judge of the judge: by what the oracle has check 6 made. */
import { expect, test } from 'vitest';
import { type EventId, type RoomId } from '../../src/matrix/identifiers.ts';
import { type StateMap } from '../../src/matrix/state-map.ts';
import { type Journalled, type SnapshotId } from '../../src/resync/events.ts';
import { check6 } from './check-6.ts';
import { type Oracle } from './oracle.ts';

const id = (name: string): EventId => `$${name}` as EventId;

/** A whole room into which these events come in this order, each with what it cites; the first is our join. */
function taken(prevEvents: Readonly<Record<string, readonly string[]>>): readonly Journalled[] {
  const states = {
    stateBefore: 's' as SnapshotId,
    stateAfter: 's' as SnapshotId,
    currentState: 's' as SnapshotId,
  };
  return Object.keys(prevEvents).map((name, i) => ({
    ...{ position: i + 1, roomId: '!room' as RoomId, epoch: 1, stream: 'timeline', seq: i + 1 },
    event: { type: 'PduAccepted', eventId: id(name), partial: false, softFailed: false, ...states },
  }));
}

/** The state after an event has a place of its name, and nothing else. `judged` is told which places the state has. */
function oracleOf(
  prevEvents: Readonly<Record<string, readonly string[]>>,
  judged: (name: string, by: readonly string[]) => void,
): Oracle {
  const after = (eventId: EventId): StateMap => new Map([[eventId.slice(1), eventId]]);
  const oracle = {
    isRejected: () => false,
    stateAfter: after,
    stateBefore: () => new Map(),
    event: (eventId: EventId) => ({ prevEvents: (prevEvents[eventId.slice(1)] ?? []).map(id) }),
    resolve: (states: readonly StateMap[]) => new Map(states.flatMap((state) => [...state])),
    isAllowedBy: (eventId: EventId, state: StateMap) => {
      judged(eventId.slice(1), [...state.keys()].sort());
      return true;
    },
  };
  return oracle as unknown as Oracle;
}

test('an event that another cited before it came is judged beside its own parents, which nobody knew to be behind both', async () => {
  const prevEvents = { join: [], child: ['late'], parent: ['join'], late: ['parent'], next: ['late'] };
  const by = new Map<string, readonly string[]>();
  await check6({
    oracle: oracleOf(prevEvents, (name, places) => by.set(name, places)),
    journal: taken(prevEvents),
    isOurs: (eventId) => eventId === id('join'),
    isCut: () => false,
    isReplayed: true,
    readState: () => Promise.resolve(new Map()),
  });
  expect(by.get('late')).toEqual(['child', 'parent']);
  expect(by.get('next')).toEqual(['child']);
});
