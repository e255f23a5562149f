/** A room of a real Synapse beside Rejoinder's view of it: what both say, event by event. */
import { type SynapseRoom } from '../../src/launch/synapse-room.ts';
import { type SynapseUser } from '../../src/launch/synapse-user.ts';
import { type ResyncEvent } from '../../src/resync/events.ts';
import { type Store } from '../../src/store/open-store.ts';
import { type RejoinderProcesses } from '../support/processes.ts';

/** The longest a test waits for a room to become whole: past the heartbeat timeout of a killed worker. */
const WHOLE_MS_MAX = 100_000;
/** A third of what an event may have. */
const MEMBERSHIP_BYTES = 20_000;

const path = (roomId: string, rest: string): string => `/rooms/${encodeURIComponent(roomId)}${rest}`;

interface Listed {
  readonly event_id: string;
}

function idsOf(rows: unknown): string[] {
  return (rows as readonly Listed[]).map(({ event_id: eventId }) => eventId).sort();
}

/** Event ids of state and of memberships, by Rejoinder's operator API, once the room is whole. */
export async function ourView(rejoinder: RejoinderProcesses, roomId: string) {
  const members = await rejoinder.ask(path(roomId, `/members?wait_ms=${WHOLE_MS_MAX}`));
  const state = await rejoinder.ask(path(roomId, `/state?members=true&wait_ms=${WHOLE_MS_MAX}`));
  if (members.status !== 200 || state.status !== 200) throw new Error(JSON.stringify([members.body, state.body]));
  return { members: idsOf(members.body['members']), state: idsOf(state.body['state']) };
}

/** The same by Synapse's client API, asked by a user of its own. */
export async function theirView(user: SynapseUser, roomId: string) {
  const members = [...(await user.members(roomId)).values()].map(({ eventId }) => eventId).sort();
  return { members, state: idsOf(await user.state(roomId)) };
}

/** The control journal of the room's newest stay. */
export async function journalOf({ store }: RejoinderProcesses, roomId: string): Promise<ResyncEvent[]> {
  const rows = await store.query<{ event: ResyncEvent }>(
    `SELECT data AS event FROM journal WHERE room_id = $1 AND stream = 'resync' ORDER BY seq`,
    [roomId],
  );
  return rows.map(({ event }) => event);
}

/** Gives every member a membership of many kilobytes, so that the room's state comes in several batches. */
export async function fattenMembers({ joined, roomId }: SynapseRoom): Promise<void> {
  const content = { membership: 'join', filler: 'x'.repeat(MEMBERSHIP_BYTES) };
  for (const user of joined) await user.sendState(roomId, 'm.room.member', user.userId, content);
}

/** Where each event lies: a row that is written again, even with the same content, lies elsewhere. */
export async function rowsOf(store: Store): Promise<Map<string, string>> {
  const rows = await store.query<{ eventId: string; place: string }>(
    `SELECT event_id AS "eventId", concat_ws(' ', ctid, xmin, stored_at) AS place FROM pdus`,
  );
  return new Map(rows.map(({ eventId, place }) => [eventId, place]));
}

/** Counts, in the database itself, how often each event is sent to be stored, by whichever process. */
export async function countInserts(store: Store): Promise<{ sentTwice(): Promise<string[]> }> {
  await store.query('CREATE TABLE test_inserts (event_id text NOT NULL)');
  await store.query(`
    CREATE FUNCTION test_count_insert() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO test_inserts VALUES (new.event_id); RETURN new; END $$`);
  await store.query(
    'CREATE TRIGGER test_inserts BEFORE INSERT ON pdus FOR EACH ROW EXECUTE FUNCTION test_count_insert()',
  );
  return {
    sentTwice: async () => {
      const rows = await store.query<{ eventId: string }>(
        'SELECT event_id AS "eventId" FROM test_inserts GROUP BY event_id HAVING count(*) > 1',
      );
      return rows.map(({ eventId }) => eventId);
    },
  };
}
