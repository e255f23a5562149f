/**
 * How many are in a room, and by whom a room without a name is called. Of a partial room both are what is known of it.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync (RoomSummary)
 */
import { ownValue } from '../matrix/content.ts';
import { type RoomId, type UserId, parseUserId } from '../matrix/identifiers.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { readFirstMembers } from '../store/journal/first-members.ts';
import { type NumberedBody, readNumbered } from '../store/journal/seen-by-clients.ts';
import { type Transaction } from '../store/open-store.ts';
import { type StateRead, readStates } from '../store/snapshots/many-snapshots.ts';
import { type TrieKey } from '../store/snapshots/snapshot-trie.ts';
import { readStateKeys } from '../store/snapshots/state-keys.ts';
import { type RoomSpan } from './read-spans.ts';

const HEROES_MAX = 5;
/** Of a nameless room with more members not all are gone through for five names: it is called after those who have a say in it. */
const MEMBERS_READ_MAX = 1_000;
/** The same of all rooms of a response together. */
const MEMBERS_IN_ALL_MAX = 50_000;
/** Of those who have a say. */
const KNOWN_MAX = 50;

const PLACES = ['m.room.create', 'm.room.power_levels'].map((type) => ({ type, stateKey: '' }));

/** The heroes of nameless rooms, by room: who came first, and if nobody is there any more, who was. */
export async function readHeroes(
  tx: Transaction,
  spans: readonly RoomSpan[],
  userId: UserId,
): Promise<ReadonlyMap<RoomId, readonly UserId[]>> {
  let inAll = 0;
  const nameless = spans.filter(({ section, room }) => section === 'join' && !room.isNamed);
  const isSmall = nameless.map(({ room }) => {
    const members = (room.joined ?? 0) + (room.invited ?? 0);
    if (members > MEMBERS_READ_MAX) return false;
    inAll += members;
    return inAll <= MEMBERS_IN_ALL_MAX;
  });
  const known = await keysOfKnown(
    tx,
    nameless.filter((_, i) => !isSmall[i]),
  );
  const states = await readStates(
    tx,
    nameless.map(({ roomId, now }, i): StateRead => {
      const selection = isSmall[i] === true ? { members: true } : { keys: known.get(roomId) ?? new Set() };
      return { roomId, state: now, selection };
    }),
  );
  const lists = states.map((places) => [...places].flatMap(([key, nid]) => (key % 2 === 1 ? [nid] : [])));
  // One more of each, who may be the user himself.
  const first = await readFirstMembers(tx, lists, HEROES_MAX + 1);
  return new Map(
    nameless.map(({ roomId }, i) => {
      const members = (first[i] ?? []).filter((member) => member.userId !== userId);
      const there = members.filter(({ isThere }) => isThere);
      return [roomId, (there.length > 0 ? there : members).slice(0, HEROES_MAX).map((member) => member.userId)];
    }),
  );
}

/** By room the places of the memberships of who made it, and whom its power levels name. */
async function keysOfKnown(
  tx: Transaction,
  spans: readonly RoomSpan[],
): Promise<ReadonlyMap<RoomId, ReadonlySet<TrieKey>>> {
  if (spans.length === 0) return new Map();
  const places = new Set((await readStateKeys(tx, PLACES)).values());
  const states = await readStates(
    tx,
    spans.map(({ roomId, now }): StateRead => ({ roomId, state: now, selection: { keys: places } })),
  );
  const bodies = await readNumbered(
    tx,
    states.flatMap((state) => [...state.values()]),
  );
  const users = states.map((state) =>
    [...state.values()].flatMap((nid) => usersNamedBy(bodies.get(nid))).slice(0, KNOWN_MAX),
  );
  const members = users.flat().map((stateKey) => ({ type: 'm.room.member', stateKey }));
  const keys = await readStateKeys(tx, members);
  return new Map(
    spans.map(({ roomId }, i) => {
      const known = (users[i] ?? []).flatMap((user) => keys.get(stateMapKey('m.room.member', user)) ?? []);
      return [roomId, new Set(known)];
    }),
  );
}

function usersNamedBy(body: NumberedBody | undefined): string[] {
  if (body === undefined) return [];
  const { type, sender, content } = JSON.parse(body.json) as JsonObject;
  if (type === 'm.room.create') return typeof sender === 'string' ? [sender] : [];
  const users = isJsonObject(content) ? ownValue(content, 'users') : undefined;
  return isJsonObject(users) ? Object.keys(users).filter((user) => parseUserId(user) !== undefined) : [];
}
