/** What a user's client has missed since its token: told at once, or as soon as there is something to tell. */
import { parseFilter } from '../matrix/client/filter.ts';
import { readJoinedRooms } from '../store/journal/rooms.ts';
import { deleteToDevice } from '../store/tables/to-device.ts';
import { type Topic } from '../store/journal/positions.ts';
import { type SyncContext } from './context.ts';
import { type Sync, type SyncAnswer, type SyncRequest } from './contract.ts';
import { SyncError } from './error.ts';
import { type Look, type LookQuery, look } from './look.ts';
import { readPresenceFor } from './presence.ts';
import { CountedEvents } from './counted-events.ts';
import { readDeviceListsSince } from './device-lists-since.ts';
import { readRestOfStates } from './rest-of-states.ts';
import { SentMembers } from './sent-members.ts';
import { parseToken } from './token.ts';
import { type Turns, createTurns, takeTurn } from '../turns.ts';

/** Between two looks while nothing can be heard, milliseconds. */
const POLL_MS = 1_000;

/** Looks that name whole states with all their members: as many numbers as there are members of a user's rooms, in memory. Users take turns. */
const WHOLE_LOOKS = 2;

/** Syncs of one process. Asks no network and takes no room's lock. */
export function createSync(context: SyncContext): Sync {
  const kept = { sent: new SentMembers(), counted: new CountedEvents() };
  const wholeLooks = createTurns(WHOLE_LOOKS);
  return {
    sync: (request) => sync(context, kept, wholeLooks, request),
    deviceLists: (userId, from) =>
      context.store.inTransaction((tx) => readDeviceListsSince(tx, userId, parseToken(from, 'from').position)),
    positionOf: (token) => parseToken(token, 'at').position,
  };
}

async function sync(
  { store, notifier, clock }: SyncContext,
  kept: Pick<LookQuery, 'sent' | 'counted'>,
  wholeLooks: Turns,
  request: SyncRequest,
): Promise<SyncAnswer> {
  const { signal, userId } = request;
  const since = request.since === undefined ? null : parseToken(request.since);
  const read = parseFilter(request.filter);
  if (!read.ok) throw new SyncError('invalid', read.reason);
  const { filter } = read;
  // The token says that what came with it has arrived.
  if (since !== null) await deleteToDevice(store, request, since.toDevice ?? since.position);
  const lookOnce = (): Promise<Look> =>
    store.inTransaction((tx) => look(tx, { request, filter, since, now: clock.now(), ...kept }));
  const presenceIn = ({ upTo }: Look): Promise<SyncAnswer['presence']> =>
    readPresenceFor(store, userId, { since: since?.position ?? 0, upTo }, filter.presence);
  const answerOf = async (looked: Look, presence?: SyncAnswer['presence']): Promise<SyncAnswer> => ({
    ...looked.answer,
    presence: presence ?? (await presenceIn(looked)),
    restOfStates: looked.rest.length === 0 ? null : readRestOfStates(store, looked.rest, filter),
  });
  if (since === null || request.isFullState) {
    if (filter.state.lazyLoadMembers) return answerOf(await lookOnce());
    const leave = await takeTurn(wholeLooks, userId, signal);
    try {
      return await answerOf(await lookOnce());
    } finally {
      leave();
    }
  }
  if (request.timeoutMs <= 0) return answerOf(await lookOnce());

  const deadline = clock.now() + request.timeoutMs;
  for (;;) {
    const topics = new Set<Topic>([userId, ...(await readJoinedRooms(store, userId))]);
    let last: Look | undefined;
    let presence: SyncAnswer['presence'] | undefined;
    const isOver = await notifier.waitForAny(
      [...topics],
      async () => {
        last = await lookOnce();
        presence = undefined;
        if (!last.isEmpty) return true;
        presence = await presenceIn(last);
        if (presence.length > 0) return true;
        // He is in a room of which nothing is heard yet.
        return last.roomIds.every((roomId) => topics.has(roomId)) ? undefined : false;
      },
      { signal, timeoutMs: Math.max(0, deadline - clock.now()), pollMs: POLL_MS },
    );
    if (last !== undefined && isOver !== false) return answerOf(last, presence);
    if (clock.now() >= deadline) return answerOf(last ?? (await lookOnce()), presence);
  }
}
