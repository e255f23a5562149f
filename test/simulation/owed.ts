/**
 * Who was to get what our users said, worked out the naive way, beside what servers were sent. When an event is shared out decides who
 * gets it: the state before it may be another by then. The simulation notes when that was; all else is read from the journal.
 */
import { type EventId, type ServerName, type UserId, domainOf } from '../../src/matrix/identifiers.ts';
import { type StateMap } from '../../src/matrix/state-map.ts';
import { type Journalled, type SnapshotId } from '../../src/resync/events.ts';
import { type Oracle } from './oracle.ts';
import { type SharedOut, type Talk } from './talk.ts';
import { type World } from './world.ts';

export interface OwedInput {
  readonly world: World;
  readonly oracle: Oracle;
  /** Of the room, all of it. */
  readonly journal: readonly Journalled[];
  readonly talk: Pick<Talk, 'taken' | 'sharedOut'>;
  readonly stateOf: (id: SnapshotId) => StateMap;
}

/** An event of ours for others. */
interface Said {
  readonly eventId: EventId;
  readonly epoch: number;
  readonly position: number;
}

/** In words, what servers were sent and should not have been, and what they lack. */
export function compareOwed(input: OwedInput): string[] {
  const { world, talk, journal } = input;
  const owed = workOutOwed(input);
  const fallen = new Set(
    journal.flatMap(({ event }) => {
      const isJudged = event.type === 'EventUnPartialStated' || event.type === 'VerdictChanged';
      return isJudged && event.is === 'rejected' ? [event.eventId] : [];
    }),
  );
  const tell = (eventId: EventId): string => {
    const { type, sender, stateKey } = world.truth.event(eventId);
    return `${eventId.slice(0, 8)} (${type} ${stateKey ?? ''} by ${sender})`;
  };
  return world.servers.flatMap(({ name }) => {
    const got = (talk.taken.get(name) ?? []).flatMap(({ eventIds }) => eventIds);
    const should = owed.get(name) ?? new Set<EventId>();
    const ordered = [...should].filter((eventId) => got.includes(eventId));
    return [
      ...got.filter((eventId) => !should.has(eventId)).map((id) => `${name} was sent ${tell(id)}, and is not owed it`),
      // What is rejected by the time it would be sent is sent to nobody.
      ...[...should]
        .filter((eventId) => !got.includes(eventId) && !fallen.has(eventId))
        .map((id) => `${name} was not sent ${tell(id)}`),
      ...(new Set(got).size < got.length ? [`${name} was sent an event twice`] : []),
      ...(ordered.join() === got.filter((id) => should.has(id)).join() ? [] : [`${name} was sent events out of order`]),
    ];
  });
}

/** What servers are owed, each in the order in which it was said. */
function workOutOwed({ world, oracle, journal, talk, stateOf }: OwedInput): ReadonlyMap<ServerName, Set<EventId>> {
  const said = journal.flatMap(({ epoch, position, event }): Said[] =>
    event.type === 'PduAccepted' && event.outgoing === true ? [{ eventId: event.eventId, epoch, position }] : [],
  );
  const owed = new Map<ServerName, Set<EventId>>();
  const owe = (name: ServerName, eventId: EventId): void => {
    if (name !== world.us) owed.set(name, (owed.get(name) ?? new Set()).add(eventId));
  };
  const serversIn = (state: SnapshotId): Set<ServerName> => joinedServers(oracle, stateOf(state));
  talk.sharedOut.forEach(({ upTo, head }: SharedOut, i) => {
    const after = talk.sharedOut[i - 1]?.upTo ?? 0;
    const then = new Then(journal.filter(({ position }) => position <= head));
    for (const { eventId, position, epoch } of said) {
      if (position <= after || position > upTo) continue;
      const { stateBefore, isPartial } = then.event(eventId);
      const { type, stateKey } = oracle.event(eventId);
      for (const name of serversIn(stateBefore)) owe(name, eventId);
      if (isPartial) for (const name of then.saidToBeIn(epoch)) owe(name, eventId);
      if (type === 'm.room.member') owe(domainOf(stateKey as UserId), eventId);
    }
    // Before our users said anything nobody could be missed.
    const begun = Math.max(after, said[0]?.position ?? 0);
    const completed = journal.find(
      ({ position, event }) => event.type === 'ResyncCompleted' && position > begun && position <= upTo,
    );
    const ofStay = said.filter(({ position, epoch }) => epoch === then.epoch && position <= upTo);
    const newest = ofStay.findLast(({ eventId }) => then.event(eventId).isAccepted);
    if (completed === undefined || newest === undefined || then.currentState === undefined) return;
    for (const name of serversIn(then.currentState)) {
      const has = owed.get(name);
      if (!ofStay.some(({ eventId }) => has?.has(eventId) === true)) owe(name, newest.eventId);
    }
  });
  return owed;
}

interface EventThen {
  readonly stateBefore: SnapshotId;
  readonly isPartial: boolean;
  readonly isAccepted: boolean;
}

/** What was known when the journal ended so. */
class Then {
  epoch = 0;
  currentState: SnapshotId | undefined;
  readonly #events = new Map<EventId, EventThen>();
  readonly #servers = new Map<number, ServerName[]>();

  constructor(journal: readonly Journalled[]) {
    for (const { epoch, event } of journal) {
      this.epoch = epoch;
      if ('currentState' in event) this.currentState = event.currentState;
      if (event.type === 'PartialStateJoined' || event.type === 'ResidentsLearned') {
        this.#servers.set(epoch, [...this.saidToBeIn(epoch), event.joinedVia, ...event.serversInRoom]);
      } else if (event.type === 'PduAccepted') {
        this.#set(event.eventId, { stateBefore: event.stateBefore, isPartial: event.partial, isAccepted: true });
      } else if (event.type === 'EventUnPartialStated' || event.type === 'VerdictChanged') {
        this.#set(event.eventId, {
          ...(event.stateBefore === undefined ? {} : { stateBefore: event.stateBefore }),
          ...(event.type === 'EventUnPartialStated' ? { isPartial: false } : {}),
          isAccepted: event.is === 'accepted',
        });
      } else if (event.type === 'StatesChanged') {
        for (const eventId of event.eventIds) this.#set(eventId, { stateBefore: event.stateBefore });
      }
    }
  }

  saidToBeIn(epoch: number): readonly ServerName[] {
    return this.#servers.get(epoch) ?? [];
  }

  event(eventId: EventId): EventThen {
    const known = this.#events.get(eventId);
    if (known === undefined) throw new Error(`the journal had no ${eventId} then`);
    return known;
  }

  #set(eventId: EventId, over: Partial<EventThen>): void {
    const known = this.#events.get(eventId);
    if (known !== undefined) {
      this.#events.set(eventId, { ...known, ...over });
    } else if (over.stateBefore !== undefined) {
      this.#events.set(eventId, { isPartial: true, isAccepted: true, ...over, stateBefore: over.stateBefore });
    }
  }
}

function joinedServers(oracle: Oracle, state: StateMap): Set<ServerName> {
  const members = [...state.values()].map((id) => oracle.event(id)).filter(({ type }) => type === 'm.room.member');
  const joined = members.filter(({ content }) => content['membership'] === 'join');
  return new Set(joined.map(({ stateKey }) => domainOf(stateKey as UserId)));
}
