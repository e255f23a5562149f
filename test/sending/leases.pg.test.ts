import { expect, test } from 'vitest';
import { type FederationClient } from '../../src/federation/contract.ts';
import { type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { startSending } from '../../src/sending/sending.ts';
import { type Store } from '../../src/store/open-store.ts';
import { insertPassing } from '../../src/store/tables/outgoing-passing.ts';
import { TestClock, roomsContextOf } from '../client-api/client.ts';
import { openTestStore } from '../support/postgres.ts';

const { store } = await openTestStore();
/** Two times the places of a process. */
const SERVERS = 64;

test('places that are freed while servers are leased are given to the next together', async () => {
  const clock = new TestClock();
  const roomId = '!large:here.test' as RoomId;
  const servers = new Set(Array.from({ length: SERVERS }, (_, i) => `s${i}.test` as ServerName));
  const edu = { roomId, key: 'one', edu: '{"edu_type":"m.typing","content":{}}', expiresAt: clock.at + 60_000 };
  await store.inTransaction((tx) => insertPassing(tx, [edu], new Map([[roomId, servers]]), clock.at));

  let [leases, underWay, most, ended] = [0, 0, 0, 0];
  const [secondBegun, firstEnded, allTaken] = [signal(), signal(), signal()];
  const watched: Store = {
    ...store,
    query: async <Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]> => {
      if (text.includes('UPDATE deliveries SET leased_until = 0') && ++ended === SERVERS / 2) firstEnded.come();
      if (!text.includes('UPDATE deliveries d SET leased_until')) return store.query<Row>(text, values);
      leases += 1;
      underWay += 1;
      most = Math.max(most, underWay);
      if (leases === 2) secondBegun.come();
      // It is under way until all of the first have ended.
      if (leases > 1) await firstEnded.came;
      const rows = await store.query<Row>(text, values);
      underWay -= 1;
      return rows;
    },
  };
  let taken = 0;
  const federation: Pick<FederationClient, 'sendTransaction'> = {
    sendTransaction: async () => {
      taken += 1;
      if (taken === SERVERS) allTaken.come();
      if (taken > 1) await secondBegun.came;
    },
  };
  const sending = startSending({
    ...{ ...roomsContextOf(watched, clock), random: () => 0 },
    federation: federation as FederationClient,
  });
  await allTaken.came;
  await sending.close();
  expect(most).toBe(1);
});

function signal(): { readonly came: Promise<void>; readonly come: () => void } {
  let come: () => void = () => undefined;
  const came = new Promise<void>((resolve) => (come = resolve));
  return { came, come };
}
