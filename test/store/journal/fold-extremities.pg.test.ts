import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { type SnapshotId, type TimelineEvent } from '../../../src/resync/events.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import { readReached, readUncovered } from '../../../src/store/events/event-states.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { createRoom, lockRoom, openEpoch } from '../../../src/store/journal/rooms.ts';
import { createSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { member, message } from '../events.ts';

const { store } = await openTestStore();
afterAll(() => expectFoldsRebuilt(store));

type Verdict = 'accepted' | 'softFailed' | 'rejected';

/** An event of the graph: what it cites, by index, and what is thought of it. */
interface Node {
  readonly parents: readonly number[];
  verdict: Verdict;
  stay: number;
  /** It is cited and has not come: nobody knows what it cites itself. */
  isMissing?: boolean;
}

/** What the specification of a forward extremity says, word for word, over everything there is; only events of this stay are any. */
function extremitiesOf(nodes: readonly Node[], stay: number): number[] {
  const reaches = (from: number, to: number): boolean => {
    const seen = new Set<number>();
    const stack = [...nodes[from]!.parents];
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      if (at === to) return true;
      if (seen.has(at) || nodes[at]!.isMissing === true) continue;
      seen.add(at);
      stack.push(...nodes[at]!.parents);
    }
    return false;
  };
  const isSolid = (node: Node): boolean => node.verdict === 'accepted' && node.isMissing !== true;
  const solid = nodes.flatMap((node, i) => (isSolid(node) ? [i] : []));
  const ofStay = solid.filter((i) => nodes[i]!.stay === stay);
  return ofStay.filter((i) => !solid.some((other) => other !== i && reaches(other, i)));
}

let rooms = 0;

class Room {
  readonly roomId = `!extremities-${(rooms += 1)}:there.test` as RoomId;
  readonly nodes: Node[] = [];
  stay = 0;
  #state: SnapshotId | undefined;

  id(i: number): EventId {
    return `$${this.roomId.slice(1)}-${i}` as EventId;
  }

  /** Opens a stay with a join on top of an event that is no event of the timeline, and is held where it cites another. */
  async join(anchorCites?: number): Promise<void> {
    this.stay += 1;
    await this.#join(anchorCites, true);
  }

  /** A further join into the stay that there is, on top of an event that is held, and no event of the timeline. */
  async further(anchorCites: number): Promise<void> {
    await this.#join(anchorCites, false);
  }

  async #join(anchorCites: number | undefined, opens: boolean): Promise<void> {
    const join = this.nodes.push({ parents: [], verdict: 'accepted', stay: this.stay }) - 1;
    const anchor = `$anchor-${this.id(join).slice(1)}` as EventId;
    const parents = opens ? {} : { prevEvents: [anchor] };
    await insertPdus(store, [member(this.id(join), '@me:here.test', 'join', { roomId: this.roomId, ...parents })]);
    const state = await createSnapshot(store, this.roomId, [this.id(join)]);
    this.#state = state;
    if (anchorCites !== undefined) {
      const prevEvents = [this.id(anchorCites)];
      await insertPdus(store, [message(anchor, { roomId: this.roomId, prevEvents })]);
    }
    await withTransaction(store, async (tx) => {
      const known = {
        joinEventId: this.id(join),
        userId: '@me:here.test' as UserId,
        joinedVia: 'there.test' as ServerName,
        ...{ anchors: [anchor], stateBefore: state, at: 1 },
      };
      const room = opens
        ? await openEpoch(tx, await createRoom(tx, this.roomId, '11'))
        : await lockRoom(tx, this.roomId);
      await append(tx, room!, [
        opens
          ? { type: 'FullStateJoined', ...known, roomVersion: '11', members: 1 }
          : { type: 'ParentsLearned', ...known },
        this.#taken(join, 'accepted'),
      ]);
    });
  }

  async take(added: readonly { parents: readonly number[]; verdict: Verdict }[]): Promise<void> {
    const first = this.nodes.length;
    this.nodes.push(...added.map((node) => ({ ...node, stay: this.stay })));
    await insertPdus(
      store,
      added.map(({ parents }, i) =>
        message(this.id(first + i), { roomId: this.roomId, prevEvents: parents.map((parent) => this.id(parent)) }),
      ),
    );
    await this.#append(added.map(({ verdict }, i) => this.#taken(first + i, verdict)));
  }

  /** Something cites an event that comes later, by `arrive`; gives its index. */
  miss(parents: readonly number[], verdict: Verdict): number {
    return this.nodes.push({ parents, verdict, stay: this.stay, isMissing: true }) - 1;
  }

  async arrive(i: number): Promise<void> {
    const node = this.nodes[i]!;
    node.isMissing = false;
    node.stay = this.stay;
    const prevEvents = node.parents.map((parent) => this.id(parent));
    await insertPdus(store, [message(this.id(i), { roomId: this.roomId, prevEvents })]);
    await this.#append([this.#taken(i, node.verdict)]);
  }

  async flip(indices: readonly number[]): Promise<void> {
    const flipped = indices.filter((i) => this.nodes[i]!.verdict !== 'softFailed' && this.nodes[i]!.isMissing !== true);
    await this.#append(
      flipped.map((i): TimelineEvent => {
        const node = this.nodes[i]!;
        const was = node.verdict === 'accepted' ? 'accepted' : 'rejected';
        const is = was === 'accepted' ? 'rejected' : 'accepted';
        node.verdict = is;
        const stateBefore = this.#state!;
        return { type: 'EventUnPartialStated', eventId: this.id(i), stateBefore, stateAfter: stateBefore, was, is };
      }),
    );
  }

  /** What check 6 finds at completion: it looks at accepted events only. */
  async softFail(indices: readonly number[]): Promise<void> {
    const failed = indices.filter((i) => this.nodes[i]!.verdict === 'accepted' && this.nodes[i]!.isMissing !== true);
    for (const i of failed) this.nodes[i]!.verdict = 'softFailed';
    await this.#append(
      failed.map((i) => ({ type: 'EventSoftFailed', eventId: this.id(i), rule: 'r', reason: 'no', authState: [] })),
    );
  }

  async extremities(): Promise<number[]> {
    const held = await withTransaction(store, async (tx) => (await lockRoom(tx, this.roomId))!.extremities);
    return held.map((id) => Number(id.split('-').at(-1))).sort((a, b) => a - b);
  }

  #taken(i: number, verdict: Verdict): TimelineEvent {
    const [eventId, stateBefore] = [this.id(i), this.#state!];
    const partial = true;
    if (verdict === 'rejected') return { type: 'PduRejected', eventId, partial, stateBefore, rule: 'r', reason: 'no' };
    const softFailed = verdict === 'softFailed';
    const states = { stateBefore, stateAfter: stateBefore, currentState: stateBefore };
    return { type: 'PduAccepted', eventId, partial, softFailed, ...states };
  }

  async #append(events: readonly TimelineEvent[]): Promise<void> {
    await withTransaction(store, async (tx) => append(tx, (await lockRoom(tx, this.roomId))!, events));
  }
}

/** Draws on what is there already; each event is judged again once, as the journal allows. */
const aStep = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      events: fc.array(
        fc.record({
          parents: fc.array(fc.nat(1_000), { minLength: 1, maxLength: 3 }),
          verdict: fc.constantFrom<Verdict>('accepted', 'accepted', 'rejected', 'softFailed'),
        }),
        { minLength: 1, maxLength: 4 },
      ),
    }),
  },
  { weight: 2, arbitrary: fc.record({ flips: fc.array(fc.nat(1_000), { minLength: 1, maxLength: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ softFails: fc.array(fc.nat(1_000), { minLength: 1, maxLength: 3 }) }) },
  { weight: 1, arbitrary: fc.constant({ rejoin: true as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      chain: fc.record({
        on: fc.array(fc.nat(1_000), { minLength: 1, maxLength: 3 }),
        verdicts: fc.array(fc.constantFrom<Verdict>('rejected', 'softFailed'), { minLength: 5, maxLength: 60 }),
        /** How many of them are taken in together. */
        atOnce: fc.integer({ min: 8, max: 60 }),
      }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      late: fc.record({
        parents: fc.array(fc.nat(1_000), { minLength: 1, maxLength: 2 }),
        verdict: fc.constantFrom<Verdict>('accepted', 'rejected', 'softFailed'),
        /** Of events on it that come first. */
        above: fc.array(fc.constantFrom<Verdict>('accepted', 'rejected', 'softFailed'), { minLength: 1, maxLength: 3 }),
        isChain: fc.boolean(),
        /** It comes in another stay than what cites it. */
        isOfNextStay: fc.boolean(),
      }),
    }),
  },
);

test('extremities are what no accepted event of this stay reaches, after every append of any history', async () => {
  const seed = 20_261_125;
  console.log(`seed ${seed}`);
  await fc.assert(
    fc.asyncProperty(fc.array(aStep, { minLength: 3, maxLength: 14 }), async (steps) => {
      const room = new Room();
      await room.join();
      const judgedAgain = new Set<number>();
      for (const step of steps) {
        if ('events' in step) {
          const first = room.nodes.length;
          await room.take(
            step.events.map(({ parents, verdict }, i) => ({
              parents: [...new Set(parents.map((parent) => parent % (first + i)))],
              verdict,
            })),
          );
        } else if ('flips' in step) {
          const chosen = [...new Set(step.flips.map((index) => index % room.nodes.length))];
          const flips = chosen.filter((index) => !judgedAgain.has(index));
          flips.forEach((index) => judgedAgain.add(index));
          await room.flip(flips);
        } else if ('chain' in step) {
          const { on, verdicts, atOnce } = step.chain;
          const first = room.nodes.length;
          const added = verdicts.map((verdict, i) => ({
            parents: i === 0 ? [...new Set(on.map((parent) => parent % first))] : [first + i - 1],
            verdict,
          }));
          for (let start = 0; start < added.length; start += atOnce) {
            await room.take(added.slice(start, start + atOnce));
          }
        } else if ('late' in step) {
          const { parents, verdict, above, isChain, isOfNextStay } = step.late;
          const known = room.nodes.length;
          const late = room.miss([...new Set(parents.map((parent) => parent % known))], verdict);
          await room.take(above.map((is, i) => ({ parents: [isChain ? late + i : late], verdict: is })));
          expect(await room.extremities()).toEqual(extremitiesOf(room.nodes, room.stay));
          if (isOfNextStay) await room.join();
          await room.arrive(late);
        } else if ('softFails' in step) {
          await room.softFail([...new Set(step.softFails.map((index) => index % room.nodes.length))]);
        } else {
          await room.join();
        }
        expect(await room.extremities()).toEqual(extremitiesOf(room.nodes, room.stay));
      }
    }),
    { seed, numRuns: 60 },
  );
}, 120_000);

test('a rejected event between an accepted one and its refused ancestor still leads from one to the other', async () => {
  const room = new Room();
  await room.join();
  await room.take([{ parents: [0], verdict: 'accepted' }]);
  await room.take([{ parents: [1], verdict: 'rejected' }]);
  await room.take([{ parents: [2], verdict: 'accepted' }]);
  await room.take([{ parents: [1], verdict: 'accepted' }]);
  expect(await room.extremities()).toEqual([3, 4]);
  await room.flip([4]);
  expect(await room.extremities()).toEqual([3]);
});

test('an event of an earlier stay that turns out accepted is no extremity of this one', async () => {
  const room = new Room();
  await room.join();
  await room.take([{ parents: [0], verdict: 'rejected' }]);
  await room.join();
  await room.flip([1]);
  expect(await room.extremities()).toEqual([2]);
});

test('an event that is taken in after what cites it, also through refused events, is no extremity', async () => {
  const room = new Room();
  await room.join();
  await room.take([
    { parents: [3], verdict: 'rejected' },
    { parents: [1], verdict: 'accepted' },
  ]);
  await room.take([{ parents: [0], verdict: 'accepted' }]);
  expect(await room.extremities()).toEqual([2]);
  await room.flip([2]);
  expect(await room.extremities()).toEqual([3]);
});

test('a new join, on top of an event that was made while we were away, leaves nothing of the earlier stay an extremity', async () => {
  const room = new Room();
  await room.join();
  await room.take([{ parents: [0], verdict: 'accepted' }]);
  await room.join(1);
  expect(await room.extremities()).toEqual([2]);
});

test('an edge ends at an anchor, whether its body is held or not: what lies before it is reached by nothing through it', async () => {
  const room = new Room();
  await room.join();
  await room.take([{ parents: [0], verdict: 'accepted' }]);
  await room.further(1);
  expect(await room.extremities()).toEqual([1, 2]);
  await room.take([{ parents: [2], verdict: 'accepted' }]);
  await room.flip([2]);
  expect(await room.extremities()).toEqual([1, 3]);
});

/** A chain of rejected events; gives its tip. */
async function refuse(room: Room, from: number, length: number): Promise<number> {
  const first = room.nodes.length;
  const parentOf = (i: number): number => (i === 0 ? from : first + i - 1);
  await room.take(Array.from({ length }, (_, i) => ({ parents: [parentOf(i)], verdict: 'rejected' as const })));
  return room.nodes.length - 1;
}

test('what lies behind any number of refused events is no extremity, and these are followed once', async () => {
  const room = new Room();
  await room.join();
  const tip = await refuse(room, 0, 1_200);
  expect((await readUncovered(store, room.roomId, [room.id(tip)])).size).toBe(1_200);
  expect(await readReached(store, room.roomId, [room.id(0), room.id(tip)])).toEqual(new Set());
  await room.take([{ parents: [tip], verdict: 'accepted' }]);
  expect(await room.extremities()).toEqual([tip + 1]);
  expect((await readUncovered(store, room.roomId, [room.id(tip)])).size).toBe(0);
  expect(await readReached(store, room.roomId, [room.id(0), room.id(tip)])).toEqual(
    new Set([room.id(0), room.id(tip)]),
  );
  // Only what is new is followed by whatever comes next.
  const next = await refuse(room, tip, 3);
  expect([...(await readUncovered(store, room.roomId, [room.id(next)])).keys()].sort()).toEqual(
    [next - 2, next - 1, next].map((i) => room.id(i)).sort(),
  );
});

test('what a flip lays bare behind any number of refused events is an extremity again, and what it covers is none', async () => {
  const room = new Room();
  await room.join();
  const tip = await refuse(room, 0, 1_000);
  await room.take([{ parents: [tip], verdict: 'accepted' }]);
  const top = tip + 1;
  await room.flip([top]);
  expect(await room.extremities()).toEqual([0]);
  await room.flip([500]);
  expect(await room.extremities()).toEqual([500]);
  await room.take([{ parents: [top], verdict: 'accepted' }]);
  expect(await room.extremities()).toEqual([top + 1]);
});
