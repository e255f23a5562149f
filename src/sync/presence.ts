/** Who is there of those who share a room with a user. It is read once a response, and nothing is said for its sake alone. */
import { type SyncFilter, passes, passesType } from '../matrix/client/filter.ts';
import { type UserId } from '../matrix/identifiers.ts';
import { type Store } from '../store/open-store.ts';
import { type Presence, readPresenceSince } from '../store/tables/presence.ts';
import { readSharing } from '../store/tables/sharing.ts';

/** Of whom something is new, looked through for those who share a room; and told of in one response, the newest. */
const LOOKED_AT_MAX = 1_000;
const TOLD_MAX = 200;

/** What is new in a span of positions; of who begins all. */
export async function readPresenceFor(
  store: Store,
  userId: UserId,
  span: { readonly since: number; readonly upTo: number },
  filter: SyncFilter['presence'],
): Promise<readonly Presence[]> {
  if (!passesType(filter, 'm.presence')) return [];
  const said = await readPresenceSince(store, span, LOOKED_AT_MAX);
  const wanted = said.filter(({ userId: sender }) => passes(filter, { type: 'm.presence', sender, content: {} }));
  if (wanted.length === 0) return [];
  const sharing = await readSharing(
    store,
    userId,
    wanted.map((one) => one.userId),
  );
  return wanted.filter((one) => one.userId === userId || sharing.has(one.userId)).slice(0, TOLD_MAX);
}
