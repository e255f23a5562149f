/** What is to be so when a sequence (stays-plan.ts) has come to rest; all that is otherwise, in words. */
import { type UserId } from '../../src/matrix/identifiers.ts';
import { readLocalMembers, readResync } from '../../src/store/journal/rooms.ts';
import { createNotifier } from '../../src/store/notify.ts';
import { type Store } from '../../src/store/open-store.ts';
import { countRows } from '../../src/store/purge/purged-tables.ts';
import { createSync } from '../../src/sync/sync.ts';
import { formatSyncToken } from '../../src/matrix/client/tokens.ts';
import { type Machine } from './process.ts';
import { type World } from './world.ts';

/** Syncs until a client has come up with the server. */
const SYNCS_MAX = 20;

export interface Stays {
  readonly world: World;
  readonly store: Store;
  readonly machine: Machine;
  /** Of whom a forced purge has forgotten a join or leave that was not settled: other servers may believe something else. */
  readonly forgotten: ReadonlySet<UserId>;
  /** The position of before the sequence. */
  readonly before: number;
}

export async function checkStays(stays: Stays): Promise<string[]> {
  return [
    ...(await compareMembers(stays)),
    ...(await compareClients(stays)),
    ...(await findLeaks(stays)),
    ...(await compareFolds(stays)),
  ];
}

/** Who of us is in, by all that other servers know. */
async function compareMembers({ world, store, forgotten }: Stays): Promise<string[]> {
  const [first] = world.servers;
  for (const from of world.servers) for (const to of world.servers) world.gossip(from, to);
  const ours = new Map((await readLocalMembers(store, world.roomId)).map((row) => [row.userId, row.membership]));
  return world.ourUsers.flatMap((userId) => {
    const isIn = world.membershipAt(first!, userId) === 'join';
    const areWeSure = !forgotten.has(userId);
    const areWeIn = ours.get(userId) === 'join';
    return isIn === areWeIn || !areWeSure
      ? []
      : [`${userId} is ${isIn ? '' : 'not '}in, and here ${areWeIn ? '' : 'not '}`];
  });
}

/** A client with a token of before is told what came of it, and no wait is left behind. */
async function compareClients({ world, store, machine, before }: Stays): Promise<string[]> {
  const notifier = createNotifier(store);
  const sync = createSync({ store: store, notifier, clock: machine.clock });
  const different: string[] = [];
  const members = await readLocalMembers(store, world.roomId);
  for (const userId of world.ourUsers) {
    let since = formatSyncToken({ position: before, owedSince: null, toDevice: null });
    let shown = 'nowhere';
    for (let syncs = 0; syncs < SYNCS_MAX; syncs += 1) {
      const answer = await sync.sync({
        ...{ userId, deviceId: 'D', since, filter: { room: { state: { lazy_load_members: true } } } },
        ...{ isFullState: false, isStateAfter: false, timeoutMs: 0, signal: new AbortController().signal },
      });
      if (answer.joined.has(world.roomId)) shown = 'joined';
      if (answer.left.has(world.roomId)) shown = 'left';
      if (answer.nextBatch === since) break;
      since = answer.nextBatch;
    }
    const isIn = members.some((row) => row.userId === userId && row.membership === 'join');
    if (isIn !== (shown === 'joined')) {
      different.push(`${userId} is ${isIn ? '' : 'not '}in, and shown the room as ${shown}`);
    }
  }
  if (notifier.waiting > 0) different.push(`${notifier.waiting} waits are left`);
  await notifier.close();
  return different;
}

/** Rows that nobody needs any more, and work that nobody does. */
async function findLeaks({ world, store }: Stays): Promise<string[]> {
  const { roomId } = world;
  const room = await readResync(store, roomId);
  const epoch = room?.epoch ?? 0;
  const leaks: readonly [string, string][] = [
    ['a purge is not done', `SELECT FROM room_purges WHERE room_id = $1`],
    ['a join is not settled', `SELECT FROM join_intents WHERE room_id = $1`],
    ['a fetch is shown that is over', `SELECT FROM fetch_progress WHERE room_id = $1`],
    [
      'an earlier stay is to be woken',
      `SELECT FROM resyncs WHERE room_id = $1 AND epoch < $2 AND next_wake_at IS NOT NULL`,
    ],
    [
      'an earlier stay is to be purged',
      `SELECT FROM resyncs WHERE room_id = $1 AND epoch < $2 AND purge_at IS NOT NULL`,
    ],
    ['a gap of an earlier stay is open', `SELECT FROM gaps WHERE room_id = $1 AND epoch < $2 AND wake_at IS NOT NULL`],
    ['an anchor of an earlier stay is partial', `SELECT FROM anchors WHERE room_id = $1 AND epoch < $2 AND partial`],
    [
      'an event of an earlier stay is partial',
      `SELECT FROM event_states WHERE room_id = $1 AND epoch < $2 AND partial`,
    ],
  ];
  const found: string[] = [];
  for (const [what, text] of leaks) {
    const values = text.includes('$2') ? [roomId, epoch] : [roomId];
    if ((await store.query(text, values)).length > 0) found.push(what);
  }
  if (room !== undefined) return found;
  const rows = await countRows(store, roomId);
  const isBare = rows.length === 1 && rows[0]?.table === 'journal' && rows[0].rows === 1;
  const isUnknown = rows.length === 0;
  const left = rows.map(({ table, rows: count }) => `${count} of ${table}`).join(', ');
  return isBare || isUnknown ? found : [...found, `a room that is not there has rows: ${left}`];
}

async function compareFolds({ world, store, machine }: Stays): Promise<string[]> {
  const { signal } = new AbortController();
  const different: string[] = [];
  for await (const room of machine.shadows.rebuild(store, { roomId: world.roomId, rowsMax: 3, signal })) {
    if (room.unfoldable !== undefined) different.push(`it cannot be folded: ${room.unfoldable}`);
    for (const difference of room.differences) different.push(`folded again: ${JSON.stringify(difference)}`);
  }
  return different;
}
