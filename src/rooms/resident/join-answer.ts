/**
 * What a server is answered whose user has joined through us: the state before the join and its auth events, whole, or without
 * memberships and with the servers to ask for these (MSC3706). Ids are held in memory, bodies are read while they are sent.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#put_matrixfederationv2send_joinroomideventid
 */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type StateKey } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readAuthChainIds } from '../../store/events/auth-events.ts';
import { streamPduBodies, streamStateBodies } from '../../store/events/pdu-bodies.ts';
import { readFirstMembers } from '../../store/journal/first-members.ts';
import { type Store } from '../../store/open-store.ts';
import { type JoinedServers } from '../../store/snapshots/joined-servers.ts';
import { readStates } from '../../store/snapshots/many-snapshots.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { redactedPages } from '../read/as-redacted.ts';
import { type EventPages, type JoinAnswer } from '../resident-contract.ts';
import { type TakenMembership } from './take-membership.ts';

export const EVENTS_A_PAGE = 500;
/** As a summary of a room names: https://github.com/matrix-org/matrix-spec-proposals/pull/3943 */
const HEROES_MAX = 5;
const NAMING: readonly StateKey[] = ['m.room.name', 'm.room.canonical_alias'].map((type) => ({ type, stateKey: '' }));

/** `joined`: remembers who is in a room from one answer to the next. */
export async function joinAnswer(
  store: Store,
  joined: JoinedServers,
  roomId: RoomId,
  { pdu, stateBefore }: TakenMembership,
  omitMembers: boolean,
): Promise<JoinAnswer> {
  const event = Buffer.from(pdu.json).toString('utf8');
  const citing = [...pdu.authEvents];
  if (!omitMembers) {
    const ids = (await readSnapshot(store, roomId, stateBefore)).map(({ eventId }) => eventId);
    // Older servers look for an auth event in the chain alone.
    const chain = await readAuthChainIds(store, roomId, [...ids, ...citing]);
    const state = redacted(store, roomId, streamStateBodies(store, roomId, stateBefore, EVENTS_A_PAGE));
    return { event, state, authChain: pages(store, roomId, [...chain]), serversInRoom: null };
  }
  const ids = await partialState(store, roomId, stateBefore, pdu.sender);
  const given = new Set(ids);
  const chain = [...(await readAuthChainIds(store, roomId, [...ids, ...citing]))].filter((id) => !given.has(id));
  const serversInRoom = await joined.of(store, roomId, stateBefore);
  return { event, state: pages(store, roomId, ids), authChain: pages(store, roomId, chain), serversInRoom };
}

/** All but memberships; of these the joiner's own, and where the room has no name those that it is called by (MSC3943). */
async function partialState(store: Store, roomId: RoomId, state: SnapshotId, joiner: UserId): Promise<EventId[]> {
  const entries = await readSnapshot(store, roomId, state, { members: false, userIds: [joiner] });
  const isNamed = NAMING.some(({ type }) => entries.some((entry) => entry.type === type && entry.stateKey === ''));
  const heroes = isNamed ? [] : await readHeroes(store, roomId, state, joiner);
  const ofHeroes = heroes.length === 0 ? [] : await readSnapshot(store, roomId, state, { userIds: heroes });
  return [...new Set([...entries, ...ofHeroes].map(({ eventId }) => eventId))];
}

async function readHeroes(store: Store, roomId: RoomId, state: SnapshotId, joiner: UserId): Promise<UserId[]> {
  const [places] = await readStates(store, [{ roomId, state, selection: { members: true } }]);
  const members = [...(places ?? [])].flatMap(([key, nid]) => (key % 2 === 1 ? [nid] : []));
  const [first = []] = await readFirstMembers(store, [members], HEROES_MAX + 1);
  const others = first.filter(({ userId }) => userId !== joiner);
  const there = others.filter(({ isThere }) => isThere);
  return (there.length > 0 ? there : others).slice(0, HEROES_MAX).map(({ userId }) => userId);
}

/** Events by id as others may have them: what was taken back as the redaction leaves it. */
export function pages(store: Store, roomId: RoomId, ids: readonly EventId[]): EventPages {
  return redacted(store, roomId, streamPduBodies(store, ids, EVENTS_A_PAGE));
}

/** The texts of pages of bodies, redacted where they were taken back. */
export async function* redacted(
  store: Store,
  roomId: RoomId,
  bodies: ReturnType<typeof streamPduBodies>,
): AsyncGenerator<readonly string[]> {
  for await (const page of redactedPages(store, roomId, bodies)) yield page.map(({ json }) => json);
}
