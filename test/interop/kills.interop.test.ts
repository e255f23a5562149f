import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { type SynapseRoom, createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { type RejoinderProcesses, eventually, startProcesses } from '../support/processes.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';
import { startTcpGate } from '../support/tcp-gate.ts';
import { countInserts, fattenMembers, journalOf, ourView, rowsOf, theirView } from './room-of-synapse.ts';

const missing = await whySynapseIsMissing();
const STATE_BODY = /^GET \/_matrix\/federation\/v1\/state\//;
const STATE_ENDPOINT = 'GET /_matrix/federation/v1/state';
/** One batch of 256 KiB and half of the second; 30 memberships of 20 KB are over 600 KB. */
const HELD_AFTER_BYTES = 400_000;
const MEMBERS = 30;
/** A killed worker is missed after ten seconds, and processes start on a machine with other work. */
const TIMEOUT_MS = 150_000;

describe.skipIf(missing !== undefined)('when a process is killed', () => {
  let synapse: TestSynapse;
  let rejoinder: RejoinderProcesses;
  beforeAll(async () => {
    synapse = await startTestSynapse();
  });
  afterAll(() => synapse.stop());
  beforeEach(() => synapse.proxy.resetCounts());
  afterEach(async () => {
    synapse.proxy.clear();
    await rejoinder.stop();
  });

  const populate = (aliasLocalpart: string): Promise<SynapseRoom> =>
    createPopulatedRoom({ synapse, members: MEMBERS, roomVersion: '11', aliasLocalpart, progress: () => undefined });
  const stateBodies = (): number => synapse.proxy.counts().get(STATE_ENDPOINT)?.requests ?? 0;

  test(
    'the worker in the middle of a fetch: the next one asks once more, and stores and verifies the rest only',
    async () => {
      const room = await populate('cut');
      await fattenMembers(room);
      rejoinder = await startProcesses(synapse);
      const { store } = rejoinder;
      const inserts = await countInserts(store);
      const [, worker] = await Promise.all([rejoinder.serve(), rejoinder.worker({ endedBy: 'KILL' })]);
      const held = synapse.proxy.inject({ match: STATE_BODY, fault: { kind: 'hold', afterBytes: HELD_AFTER_BYTES } });
      await rejoinder.ask('/rooms/join', { room: room.alias, user_id: 'me' });
      await held.held;
      // A batch is stored in one transaction, and the second one is not complete.
      await eventually('the first batch is stored', async () => {
        const stored = await store.query(`SELECT FROM pdus WHERE membership = 'join' AND length(json::text) > 20000`);
        return stored.length > 0 ? true : undefined;
      });

      await worker.stop();
      expect(await worker.ended).toBe('exited with 137');
      const kept = await rowsOf(store);
      held.remove();
      held.release();
      await rejoinder.worker();
      expect(await ourView(rejoinder, room.roomId)).toEqual(await theirView(room.owner, room.roomId));

      expect(stateBodies()).toBe(2);
      const now = await rowsOf(store);
      expect([...kept].filter(([eventId, place]) => now.get(eventId) !== place)).toEqual([]);
      expect(await inserts.sentTwice()).toEqual([]);
      const journal = await journalOf(rejoinder, room.roomId);
      // What the killed worker has judged is looked at once more, since nobody knows by what; that changes nothing.
      const looked = journal.filter((event) => event.type === 'EventsCorrected');
      expect(looked.filter(({ changed }) => changed !== 0)).toEqual([]);
      expect(journal.map(({ type }) => type).filter((type) => type !== 'EventsCorrected')).toEqual([
        'PartialStateJoined',
        'StateFetchStarted',
        'StateFetched',
        'EventsWalked',
        'ResyncCompleted',
      ]);
      const fetched = journal.find((event) => event.type === 'StateFetched');
      // What was stored before is skipped before its signatures are looked at; the rest is verified, once.
      expect(fetched?.counts).toMatchObject({ alreadyHeld: kept.size - 1, fetched: now.size - kept.size, dropped: 0 });
    },
    TIMEOUT_MS,
  );

  test(
    'the worker in the middle of the walk: the next one walks, and asks for no state again',
    async () => {
      const room = await populate('walked');
      rejoinder = await startProcesses(synapse);
      const { store } = rejoinder;
      const inserts = await countInserts(store);
      // The walk stops inside its transaction, after its verdicts and before its commit, for as long as we hold the lock.
      await store.query(`
        CREATE FUNCTION test_stop() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN new; END $$`);
      await store.query(`
        CREATE TRIGGER test_stop BEFORE INSERT ON journal FOR EACH ROW WHEN (new.type = 'EventsWalked')
        EXECUTE FUNCTION test_stop()`);
      const [, worker] = await Promise.all([rejoinder.serve(), rejoinder.worker({ endedBy: 'KILL' })]);
      let kept = new Map<string, string>();
      await store.inTransaction(async (tx) => {
        await tx.query('SELECT pg_advisory_xact_lock(1)');
        await rejoinder.ask('/rooms/join', { room: room.alias, user_id: 'me' });
        await eventually('the walk stops', async () => {
          const waiting = await store.query(`SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`);
          return waiting.length > 0 ? true : undefined;
        });
        await worker.stop();
        kept = await rowsOf(store);
      });
      await rejoinder.worker();
      expect(await ourView(rejoinder, room.roomId)).toEqual(await theirView(room.owner, room.roomId));

      expect(stateBodies()).toBe(1);
      const now = await rowsOf(store);
      expect([...kept].filter(([eventId, place]) => now.get(eventId) !== place)).toEqual([]);
      expect(await inserts.sentTwice()).toEqual([]);
      expect((await journalOf(rejoinder, room.roomId)).map(({ type }) => type)).toEqual([
        'PartialStateJoined',
        'StateFetchStarted',
        'StateFetched',
        'EventsWalked',
        'ResyncCompleted',
      ]);
    },
    TIMEOUT_MS,
  );

  test(
    'the server between the commit of a join and the start of its workflow: the sweep finds the room',
    async () => {
      const room = await populate('lost');
      const gate = await startTcpGate(inject('temporalAddress'));
      rejoinder = await startProcesses(synapse, { sweepAfter: '1s', temporalOfServe: gate.address });
      const server = await rejoinder.serve({ endedBy: 'KILL' });
      gate.close();
      const join = rejoinder.ask('/rooms/join', { room: room.alias, user_id: 'me' }).catch(() => 'no answer');
      await eventually('the join is committed', async () =>
        (await journalOf(rejoinder, room.roomId)).length > 0 ? true : undefined,
      );
      await server.stop();
      expect(await join).toBe('no answer');
      expect((await journalOf(rejoinder, room.roomId)).map(({ type }) => type)).toEqual(['PartialStateJoined']);
      expect(stateBodies()).toBe(0);

      await rejoinder.worker();
      const working = Date.now();
      await eventually('the room is whole', async () =>
        (await journalOf(rejoinder, room.roomId)).some(({ type }) => type === 'ResyncCompleted') ? true : undefined,
      );
      // A pass a second rings what is overdue by a second; the rest is the resync itself.
      expect(Date.now() - working).toBeLessThan(15_000);
      gate.open();
      await rejoinder.serve();
      expect(await ourView(rejoinder, room.roomId)).toEqual(await theirView(room.owner, room.roomId));
      await gate.stop();
    },
    TIMEOUT_MS,
  );
});
