/** A room in which something passes: who types, who has read what, who is there. */
import { expect, onTestFinished } from 'vitest';
import { type RunningPassing, startPassing } from '../../src/edus/passing.ts';
import { receiveEdus } from '../../src/edus/receive-edus.ts';
import { type RoomId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type EduType } from '../../src/matrix/transactions.ts';
import { type Store } from '../../src/store/open-store.ts';
import { createNotifier } from '../../src/store/notify.ts';
import { readNextPassing, readPassing, settlePassing } from '../../src/store/tables/outgoing-passing.ts';
import { createSync } from '../../src/sync/sync.ts';
import { type Sync, type SyncAnswer } from '../../src/sync/contract.ts';
import { TestClock } from '../client-api/client.ts';
import { silent } from '../federation/tls-server.ts';
import { ME, PartialRoom } from '../rooms/resync/partial-room.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { FoldingClient } from '../sync/folding-client.ts';

export const THERE = 'there.test' as ServerName;
export const OUR = ME as UserId;
export const AUTH = ['create', 'power', 'rules'];
const FULL = ['create', 'admin', 'power', 'rules'];

export interface Stage {
  readonly store: Store;
  readonly room: PartialRoom;
  readonly passing: RunningPassing;
  readonly client: FoldingClient;
  readonly clock: TestClock;
  readonly sync: Sync;
  /** What another server sends, taken in and written. */
  readonly receive: (type: EduType, content: JsonObject, origin?: string) => Promise<void>;
  readonly events: (answer: SyncAnswer) => readonly JsonObject[];
}

export async function start(isWhole = true): Promise<Stage> {
  const database = await createTestDatabase();
  const store = database.openStore({ serverName: 'here.test' });
  const notifier = createNotifier(store);
  const clock = new TestClock();
  const room = new PartialRoom(store);
  await room.join();
  if (isWhole) {
    await room.fetch(...FULL);
    expect(await room.walk()).toMatchObject({ partial: false });
  }
  const context = { serverName: 'here.test' as ServerName, store, clock, logger: silent };
  const passing = startPassing({ ...context, onSaid: () => undefined });
  onTestFinished(async () => {
    await passing.close();
    await notifier.close();
    await database.drop();
  });
  const sync = createSync({ store, notifier, clock });
  const client = new FoldingClient(sync, { userId: ME, lazy: true });
  return {
    ...{ store, room, passing, client, clock, sync },
    receive: async (type, content, origin = THERE) => {
      await receiveEdus({ ...context, passing }, origin as ServerName, [{ type, content }]);
      await passing.settle();
    },
    events: ({ joined }) => joined.get(room.roomId)?.ephemeral ?? [],
  };
}

/** What waits for a server, as it would get it, and is taken. */
export async function told(store: Store, now: number, serverName: ServerName = THERE): Promise<JsonObject[]> {
  const { upTo } = await readNextPassing(store, serverName, { now, limit: 100 });
  if (upTo === null) return [];
  const edus = await readPassing(store, serverName, now, upTo);
  await settlePassing(store, serverName, upTo);
  return edus;
}

export const typing = (room: PartialRoom, user: string, isTyping = true): JsonObject => ({
  ...{ room_id: room.roomId, user_id: user, typing: isTyping },
});
export const typingEvent = (...users: string[]): JsonObject => ({ type: 'm.typing', content: { user_ids: users } });
export const receipt = (roomId: RoomId, user: string, eventId: string, data: JsonObject = { ts: 5 }): JsonObject => ({
  [roomId]: { 'm.read': { [user]: { data, event_ids: [eventId] } } },
});
