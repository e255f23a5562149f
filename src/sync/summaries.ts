/**
 * How many are in a room, and by whom a room without a name is called. Of a partial room both are what is known of it.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync (RoomSummary)
 */
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { readNumbered } from '../store/journal/seen-by-clients.ts';
import { type Transaction } from '../store/open-store.ts';
import { readStates } from '../store/snapshots/many-snapshots.ts';
import { type RoomSpan } from './read-rooms.ts';

const HEROES_MAX = 5;
/** Of a nameless room with more members nobody is named: its members would be read for five names. */
const MEMBERS_READ_MAX = 1_000;

/** The heroes of nameless rooms, by room: who came first, and if nobody is there any more, who was. */
export async function readHeroes(
  tx: Transaction,
  spans: readonly RoomSpan[],
  userId: UserId,
): Promise<ReadonlyMap<RoomId, readonly UserId[]>> {
  const nameless = spans.filter(
    ({ section, room }) =>
      section === 'join' && !room.isNamed && (room.joined ?? 0) + (room.invited ?? 0) <= MEMBERS_READ_MAX,
  );
  const states = await readStates(
    tx,
    nameless.map(({ roomId, now }) => ({ roomId, state: now, selection: { members: true } })),
  );
  const nids = states.map((places) =>
    [...places].flatMap(([key, nid]) => (key % 2 === 1 ? [nid] : [])).sort((a, b) => a - b),
  );
  const bodies = await readNumbered(tx, nids.flat());
  return new Map(
    nameless.map(({ roomId }, i) => {
      const members = (nids[i] ?? []).flatMap((nid) => {
        const body = bodies.get(nid);
        const user = body && (JSON.parse(body.json) as JsonObject)['state_key'];
        return typeof user === 'string' && user !== userId
          ? [{ user: user as UserId, membership: body?.membership }]
          : [];
      });
      const there = members.filter(({ membership }) => membership === 'join' || membership === 'invite');
      return [roomId, (there.length > 0 ? there : members).slice(0, HEROES_MAX).map(({ user }) => user)];
    }),
  );
}
