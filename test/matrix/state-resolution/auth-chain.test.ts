import { describe, expect, test } from 'vitest';
import {
  type AuthGraph,
  authDifference,
  conflictedStateSubgraph,
} from '../../../src/matrix/state-resolution/auth-chain.ts';
import { separate } from '../../../src/matrix/state-resolution/separate.ts';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type StateMap } from '../../../src/matrix/state-map.ts';
import { type Random, createRandom } from '../../differential/random.ts';
import { whole } from '../../../src/matrix/state-resolution/parts.ts';

type Citations = ReadonlyMap<EventId, readonly EventId[]>;

/** From each event to those it cites, as `{ child: 'parent parent' }`; what is cited comes first. */
function citationsOf(events: Readonly<Record<string, string>>): Citations {
  return new Map(
    Object.entries(events).map(([id, cited]) => [id as EventId, cited.split(' ').filter(Boolean) as EventId[]]),
  );
}
const ids = (names: string): EventId[] => names.split(' ').filter(Boolean) as EventId[];

/** The depth of each event, greater than that of all it cites. */
function depthsOf(citations: Citations): ReadonlyMap<EventId, number> {
  const depths = new Map<EventId, number>();
  for (const [id, cited] of citations) depths.set(id, Math.max(0, ...cited.map((each) => 1 + (depths.get(each) ?? 0))));
  return depths;
}

/** A graph that notes which events it was asked about. */
function graphOf(citations: Citations, { isMeasured = false } = {}): AuthGraph & { readonly asked: Set<EventId> } {
  const asked = new Set<EventId>();
  const depths = depthsOf(citations);
  const authEventsOf = (id: EventId): readonly EventId[] | undefined => {
    asked.add(id);
    return citations.get(id);
  };
  return { asked, authEventsOf, ...(isMeasured && { authDepthOf: (id: EventId) => depths.get(id) }) };
}

/** The events and all that they reach. */
function reached(from: readonly EventId[], citations: Citations): Set<EventId> {
  const found = new Set(from);
  for (const id of found) for (const cited of citations.get(id) ?? []) found.add(cited);
  return found;
}

/** Events of which each cites some older ones, a few of them not at hand. */
function randomCitations(random: Random, size: number): Citations {
  const all = Array.from({ length: size }, (_, i) => `$${String(i)}` as EventId);
  const some = (before: number): EventId[] =>
    before === 0 ? [] : Array.from({ length: random.integer(4) }, () => all[random.integer(before)]!);
  return new Map(all.map((id, i) => [id, random.chance(0.05) ? ([`$gone${String(i)}`] as EventId[]) : some(i)]));
}

/** The auth difference of states that have `unconflicted` in common and `conflicted` each for itself. */
function differenceOf(
  { unconflicted, conflicted }: { unconflicted: StateMap; conflicted: readonly (readonly EventId[])[] },
  graph: AuthGraph,
  placeOf: (id: EventId) => string,
): Set<EventId> {
  // The places of the states: those in common are called as in the first test, the others by state and number.
  const states = conflicted.map((ids, i) => [
    ...unconflicted,
    ...ids.map((id, j) => [`conflicted ${String(i)} ${String(j)}`, id] as const),
  ]);
  const separated = separate(
    states.map((state) => new Map(state)),
    graph,
    placeOf,
  );
  return whole(authDifference(separated, graph));
}

const ROOMS = 400;
const EVENTS = 30;

describe('the auth difference', () => {
  /** Old power levels stood where others stand now; every other event has a place named as itself. */
  const placeOf = (id: EventId): string => (id === 'old' ? 'power' : id);
  const standing = (names: string) => new Map(ids(names).map((id) => [placeOf(id), id]));

  test('is what some states reach and not all, in random graphs, whether or not depths are known', () => {
    for (let seed = 1; seed <= ROOMS; seed++) {
      const random = createRandom(seed);
      const citations = randomCitations(random, EVENTS);
      const known = [...citations.keys()];
      const some = (): EventId[] => known.filter(() => random.chance(0.1));
      // Half of the events share places, so that an unconflicted one may be the successor of one in doubt.
      const sharedPlaceOf = (id: EventId): string => String(Number(id.slice(1)) % (EVENTS / 2));
      const unconflicted = new Map(some().map((id) => [sharedPlaceOf(id), id]));
      const conflicted = Array.from({ length: 2 + random.integer(2) }, some);
      const chains = conflicted.map((state) => reached([...unconflicted.values(), ...state], citations));
      const decided = new Set([...conflicted.flat(), ...unconflicted.values()]);
      const expected = [...new Set(chains.flatMap((chain) => [...chain]))]
        .filter((id) => !decided.has(id) && !chains.every((chain) => chain.has(id)))
        .sort();
      for (const isMeasured of [false, true]) {
        const difference = differenceOf(
          { unconflicted, conflicted },
          graphOf(citations, { isMeasured }),
          sharedPlaceOf,
        );
        expect({ seed, difference: [...difference].filter((id) => !decided.has(id)).sort() }).toEqual({
          seed,
          difference: expected,
        });
      }
    }
  });

  test('has nothing that an unconflicted event of another place reaches', () => {
    // The power levels in force cite their own predecessor no more; a member still does.
    const citations = citationsOf({
      create: '',
      old: 'create',
      power: 'create',
      member: 'old',
      left: 'old',
      right: 'power',
    });
    const conflicted = [ids('left'), ids('right')];
    const difference = differenceOf(
      { unconflicted: standing('power member'), conflicted },
      graphOf(citations),
      placeOf,
    );
    expect([...difference].sort()).toEqual(['left', 'right']);
  });

  test('is found without looking at members, where the successor of what is in doubt settles it', () => {
    const citations = citationsOf({
      create: '',
      old: 'create',
      power: 'create old',
      member: 'power',
      left: 'old',
      right: 'create',
    });
    const graph = graphOf(citations);
    const conflicted = [ids('left'), ids('right')];
    const difference = differenceOf({ unconflicted: standing('power member'), conflicted }, graph, placeOf);
    expect([...difference].sort()).toEqual(['left', 'right']);
    expect(graph.asked).not.toContain('member');
  });

  test('is found without looking below where all chains have met, when depths are known', () => {
    const citations = citationsOf({ create: '', far: 'create', near: 'far', left: 'near', right: 'near' });
    const graph = graphOf(citations, { isMeasured: true });
    const states = { unconflicted: standing(''), conflicted: [ids('left'), ids('right')] };
    expect([...differenceOf(states, graph, placeOf)].sort()).toEqual(['left', 'right']);
    expect([...graph.asked].sort()).toEqual(['left', 'right']);
  });
});

describe('the conflicted state subgraph', () => {
  test('is what lies on a path between conflicted events, in random graphs, whether or not depths are known', () => {
    for (let seed = 1; seed <= ROOMS; seed++) {
      const random = createRandom(seed);
      const citations = randomCitations(random, EVENTS);
      const conflicted = new Set([...citations.keys()].filter(() => random.chance(0.15)));
      const above = reached([...conflicted], citations);
      const expected = [...above]
        .filter((id) => [...reached([id], citations)].some((below) => conflicted.has(below)))
        .sort();
      for (const isMeasured of [false, true]) {
        const subgraph = whole(conflictedStateSubgraph(conflicted, graphOf(citations, { isMeasured })));
        expect({ seed, subgraph: [...subgraph].sort() }).toEqual({ seed, subgraph: expected });
      }
    }
  });

  test('is found without looking below the oldest conflicted event, when depths are known', () => {
    const citations = citationsOf({
      create: '',
      far: 'create',
      lowest: 'far',
      between: 'lowest',
      highest: 'between far',
    });
    const graph = graphOf(citations, { isMeasured: true });
    const subgraph = whole(conflictedStateSubgraph(new Set(ids('lowest highest')), graph));
    expect([...subgraph].sort()).toEqual(['between', 'highest', 'lowest']);
    expect([...graph.asked].sort()).toEqual(['between', 'highest', 'lowest']);
  });
});
