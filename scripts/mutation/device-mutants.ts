/**
 * Faults that messages to devices and device lists could have, each put into one place of the source. The play of them has to find each
 * (test/devices/devices-play.ts), by a seed, or a test where nothing in the play happens at the same time (scripts/mutate-resync.ts).
 */
import { type FindingTest, type ResyncMutant } from './resync-mutants.ts';

const bySeed = (seed: number): FindingTest => ({
  file: 'test/devices/devices-play.pg.test.ts',
  title: `by seed ${seed}: `,
});

const mutant =
  (kind: ResyncMutant['kind'], file: string) =>
  (name: string, was: string, is: string, foundBy: FindingTest): ResyncMutant => ({
    kind,
    name,
    file,
    was,
    is,
    foundBy,
  });

const received = mutant('to device', 'src/devices/receive-to-device.ts');
const waiting = mutant('to device', 'src/store/tables/to-device.ts');
const sent = mutant('to device', 'src/devices/send-to-device.ts');
const delivered = mutant('to device', 'src/sending/deliver.ts');
const settled = mutant('to device', 'src/store/tables/deliveries.ts');
const told = mutant('device lists', 'src/devices/tell-device-lists.ts');
const applied = mutant('device lists', 'src/devices/apply-update.ts');
const asked = mutant('device lists', 'src/devices/query-keys.ts');
const synced = mutant('device lists', 'src/sync/device-lists.ts');

export const DEVICE_MUTANTS: readonly ResyncMutant[] = [
  received(
    'a message that comes again is taken again',
    'received.filter(({ messageId }) => taken.delete(messageId));',
    'received.filter(({ messageId }) => taken.delete(messageId) || true);',
    bySeed(1),
  ),
  waiting(
    'what a device has not got goes with what it has',
    'AND device_id = $2 AND position <= $3\n        AND $3 <=',
    'AND device_id = $2 AND $3 <=',
    bySeed(1),
  ),
  sent(
    'the same request of a client sends again',
    '      return;\n    }\n    const recipients',
    '    }\n    const recipients',
    bySeed(5),
  ),
  delivered(
    'what was begun to be sent is sent anew under another name',
    'let transaction = pendingOf(delivery);',
    'let transaction = pendingOf({ ...delivery, txnId: null });',
    bySeed(1),
  ),
  settled(
    'what a server has taken is sent to it again',
    '  await deleteEdus(tx, serverName, edus);\n',
    '  if (serverName === tx.serverName) await deleteEdus(tx, serverName, edus);\n',
    bySeed(1),
  ),
  told(
    'who turns out to be in a room is not told of what changed while it was partial',
    'await enqueue(tx, await readChangesSince(tx, rooms), servers);',
    'await enqueue(tx, (await readChangesSince(tx, rooms)).slice(0, 0), servers);',
    bySeed(2),
  ),
  told(
    'of the changes of one moment the last is not told',
    '  await enqueue(tx, changes, servers);',
    '  await enqueue(tx, changes.slice(0, -1), servers);',
    bySeed(1),
  ),
  told(
    'who was told of a change is told again when the room is whole',
    '(told.get(place) ?? 0) >= position) continue;',
    'told.size < 0) continue;',
    bySeed(1),
  ),
  applied(
    'an update that builds on something else is put in',
    'if (!Array.isArray(before) || !(before as readonly Json[]).includes(streamId)) return undefined;',
    'if (!Array.isArray(before)) return undefined;',
    {
      file: 'test/devices/cached-devices.pg.test.ts',
      title: 'an update that builds on what was said is put in, and after a gap the server is asked again',
    },
  ),
  asked(
    'what changes while a server is asked is taken for known',
    'await keep(context, said, tracked, changedAt);',
    'await keep(context, said, tracked, await readChangedAt(store, [...tracked.keys()]));',
    {
      file: 'test/devices/cached-devices.pg.test.ts',
      title: 'what changes while the server is asked makes what it says worth nothing',
    },
  ),
  synced(
    'who was wrongly believed to be in a room stays in sight',
    'const left = [...moved.gone].filter((user) => !sharing.has(user) && user !== userId);\n  return { changed: [...told], left };',
    'return { changed: [...told], left: [] };',
    bySeed(1),
  ),
  synced(
    'who turns out to be in a room when it is whole is not told of',
    'const told = new Set([...moved.came, ...changed',
    'const told = new Set([...changed',
    bySeed(6),
  ),
];
