/** Who is there of those who share a room with a user. It is read once a response, and where there is nothing else to tell. */
import { type SyncFilter, passes, passesType } from '../matrix/client/filter.ts';
import { type UserId } from '../matrix/identifiers.ts';
import { type Store } from '../store/open-store.ts';
import { type Presence, type SaidPresence, readPresenceSince } from '../store/tables/presence.ts';
import { readSharing } from '../store/tables/sharing.ts';

/** Of whom something is new, looked through for those who share a room, so many at a time and so often; and told of in one response, the newest. */
const LOOKED_AT_ONCE = 1_000;
const LOOKS_MAX = 5;
const TOLD_MAX = 200;

/** What is new in a span of positions; of who begins all. Of more than is looked through the oldest is not told before it is said anew. */
export async function readPresenceFor(
  store: Store,
  userId: UserId,
  span: { readonly since: number; readonly upTo: number },
  filter: SyncFilter['presence'],
): Promise<readonly Presence[]> {
  if (!passesType(filter, 'm.presence')) return [];
  const told: Presence[] = [];
  let after: SaidPresence | null = null;
  for (let looks = 0; looks < LOOKS_MAX && told.length < TOLD_MAX; looks += 1) {
    const said: SaidPresence[] = await readPresenceSince(store, span, LOOKED_AT_ONCE, after);
    const wanted = said.flatMap(({ presence }) =>
      passes(filter, { type: 'm.presence', sender: presence.userId, content: {} }) ? [presence] : [],
    );
    if (wanted.length > 0) {
      const users = wanted.map((one) => one.userId);
      const sharing = await readSharing(store, userId, users);
      told.push(...wanted.filter((one) => one.userId === userId || sharing.has(one.userId)));
    }
    after = said.at(-1) ?? null;
    if (said.length < LOOKED_AT_ONCE) break;
  }
  return told.slice(0, TOLD_MAX);
}
