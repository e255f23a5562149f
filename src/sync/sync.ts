/** What a user's client has missed since its token: told at once, or as soon as there is something to tell. */
import { parseFilter } from '../matrix/client/filter.ts';
import { readJoinedRooms } from '../store/journal/rooms.ts';
import { type Topic } from '../store/journal/positions.ts';
import { type SyncContext } from './context.ts';
import { type Sync, type SyncAnswer, type SyncRequest } from './contract.ts';
import { SyncError } from './error.ts';
import { type Look, type LookQuery, look } from './look.ts';
import { CountedEvents } from './counted-events.ts';
import { SentMembers } from './sent-members.ts';
import { parseToken } from './token.ts';

/** Between two looks while nothing can be heard, milliseconds. */
const POLL_MS = 1_000;

/** Syncs of one process. Asks no network and takes no room's lock. */
export function createSync(context: SyncContext): Sync {
  const kept = { sent: new SentMembers(), counted: new CountedEvents() };
  return {
    sync: (request) => sync(context, kept, request),
    positionOf: (token) => parseToken(token, 'at').position,
  };
}

async function sync(
  { store, notifier, clock }: SyncContext,
  kept: Pick<LookQuery, 'sent' | 'counted'>,
  request: SyncRequest,
): Promise<SyncAnswer> {
  const { signal, userId } = request;
  const since = request.since === undefined ? null : parseToken(request.since);
  const read = parseFilter(request.filter);
  if (!read.ok) throw new SyncError('invalid', read.reason);
  const { filter } = read;
  const lookOnce = (): Promise<Look> =>
    store.inTransaction((tx) => look(tx, { request, filter, since, now: clock.now(), ...kept }));
  if (since === null || request.isFullState || request.timeoutMs <= 0) return (await lookOnce()).answer;

  const deadline = clock.now() + request.timeoutMs;
  for (;;) {
    const topics = new Set<Topic>([userId, ...(await readJoinedRooms(store, userId))]);
    let last: Look | undefined;
    const isOver = await notifier.waitForAny(
      [...topics],
      async () => {
        last = await lookOnce();
        if (!last.isEmpty) return true;
        // He is in a room of which nothing is heard yet.
        return last.roomIds.every((roomId) => topics.has(roomId)) ? undefined : false;
      },
      { signal, timeoutMs: Math.max(0, deadline - clock.now()), pollMs: POLL_MS },
    );
    if (last !== undefined && isOver !== false) return last.answer;
    if (clock.now() >= deadline) return (last ?? (await lookOnce())).answer;
  }
}
