import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type SnapshotId } from '../../../src/resync/events.ts';
import { OrderedExtremities } from '../../../src/rooms/resync/ordered-extremities.ts';

const id = (i: number): EventId => `$${i}` as EventId;

/** Events by index, each citing earlier ones; some are refused, and some at which the graph begins are never taken in. */
const aGraph = fc
  .array(
    fc.record({
      cites: fc.array(fc.nat(1_000), { minLength: 0, maxLength: 3 }),
      isSolid: fc.boolean(),
      isTaken: fc.nat(9).map((n) => n > 0),
      turn: fc.nat(1_000_000),
    }),
    { minLength: 1, maxLength: 25 },
  )
  .map((nodes) =>
    nodes.map(({ cites, ...node }, i) => ({ ...node, cites: i === 0 ? [] : [...new Set(cites.map((c) => c % i))] })),
  );

test('at every place the extremities are the solid events so far that no other one reaches, in whatever order all came', () => {
  fc.assert(
    fc.property(aGraph, (nodes) => {
      const reaches = (from: number, to: number): boolean =>
        nodes[from]!.cites.some((cited) => cited === to || reaches(cited, to));
      const order = nodes
        .map((_, i) => i)
        .filter((i) => nodes[i]!.isTaken)
        .sort((a, b) => nodes[a]!.turn - nodes[b]!.turn);
      const extremities = new OrderedExtremities();
      const taken: number[] = [];
      for (const i of order) {
        // What its ancestors are is known, whether they have come or not.
        const ahead = nodes.flatMap((node, k) => (taken.includes(k) ? [] : [[id(k), node.cites.map(id)] as const]));
        extremities.learn(new Map(ahead));
        const { cites, isSolid } = nodes[i]!;
        extremities.take({
          eventId: id(i),
          prevEvents: cites.map(id),
          stateAfter: `${i}` as SnapshotId,
          isSolid,
        });
        taken.push(i);
        const solid = taken.filter((k) => nodes[k]!.isSolid);
        const tips = solid.filter((k) => !solid.some((other) => reaches(other, k)));
        expect(extremities.eventIds.sort()).toEqual(tips.map(id).sort());
        expect(extremities.states).toEqual(tips.map(String).sort());
      }
    }),
    { seed: 20_261_125, numRuns: 2_000 },
  );
});

test('what lies behind an event that comes last of all is reached through it from then on', () => {
  const extremities = new OrderedExtremities();
  const take = (i: number, prevEvents: readonly number[], isSolid = true): void => {
    extremities.take({ eventId: id(i), prevEvents: prevEvents.map(id), stateAfter: `${i}` as SnapshotId, isSolid });
  };
  take(0, []);
  take(2, [1]);
  expect(extremities.eventIds.sort()).toEqual([id(0), id(2)]);
  take(1, [0], false);
  expect(extremities.eventIds).toEqual([id(2)]);
});
