import { expect, onTestFinished, test, vi } from 'vitest';
import { createServiceClient } from '../../src/app-services/ask-service.ts';
import { createMatching } from '../../src/app-services/matching.ts';
import { type Telling, startTelling } from '../../src/app-services/telling.ts';
import { systemClock } from '../../src/clock.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { readHead } from '../../src/store/journal/journal.ts';
import { readServiceLags } from '../../src/store/tables/app-services.ts';
import { silent } from '../federation/tls-server.ts';
import { ADMIN, ME, PartialRoom, message } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { serviceOf, startTestService } from './service-of-tests.ts';

const { store } = await openTestStore();

const HERE = 'here.test' as ServerName;
const ACCEPTED = { was: 'rejected', is: 'accepted' } as const;
const REJECTED = { was: 'accepted', is: 'rejected', rule: 'late', reason: 'late' } as const;

test('an event that a correction accepts is told when it is shown, and one that was told before is not taken back', async () => {
  const remote = await startTestService();
  const client = createServiceClient('tests');
  onTestFinished(() => client.close());
  let telling: Telling | undefined;
  const start = async (): Promise<() => Promise<void>> => {
    const users = [{ regex: ME }];
    const service = serviceOf(HERE, { url: remote.url, namespaces: { users } });
    const context = { store, client, clock: systemClock, random: Math.random, logger: silent };
    telling = startTelling({ ...context, matching: createMatching([service]), onFailure: () => undefined }, [service]);
    const started = telling;
    onTestFinished(() => started.close());
    await caughtUp();
    return () => started.close();
  };
  const caughtUp = (): Promise<void> =>
    vi.waitFor(async () => expect((await readServiceLags(store, ['bridge'], telling!.looked))[0]?.positions).toBe(0), {
      timeout: 20_000,
    });
  const stop = await start();
  const room = new PartialRoom(store);
  await room.join();
  const admin = { auth: ['create', 'power', 'admin'] };
  const judge = async (name: string, verdict: typeof ACCEPTED | typeof REJECTED): Promise<void> => {
    const { stateBefore, stateAfter } = (await room.event(name))!;
    const cause = await readHead(store);
    await room.journal({ type: 'VerdictChanged', eventId: room.id(name), ...verdict, cause, stateBefore, stateAfter });
  };
  await room.push(message('told', ADMIN, { prev: ['join'], ...admin }));
  await caughtUp();
  const told = (): unknown[] => remote.events().map((event) => event['event_id']);
  const names = (...of: readonly string[]): unknown[] => of.map((name) => room.id(name));
  expect(told()).toEqual(names('join', 'told'));
  await stop();

  await room.push(
    message('late', ADMIN, { prev: ['told'], ...admin }),
    message('next', ADMIN, { prev: ['late'], ...admin }),
  );
  await judge('late', REJECTED);
  await judge('told', REJECTED);
  await start();
  await caughtUp();
  expect(told()).toEqual(names('join', 'told', 'next'));
  await judge('late', ACCEPTED);
  await caughtUp();
  expect(told()).toEqual(names('join', 'told', 'next', 'late'));
  await judge('told', ACCEPTED);
  await caughtUp();
  expect(told()).toEqual(names('join', 'told', 'next', 'late', 'told'));
});
