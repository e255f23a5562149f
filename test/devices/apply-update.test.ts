import { expect, test } from 'vitest';
import { withUpdates } from '../../src/devices/apply-update.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';

const kept = { streamId: 5, keys: { devices: { A: { key: 'a' } }, masterKey: { key: 'm' } } };
const update = (deviceId: string, streamId: number, prev: readonly number[], more: JsonObject = {}): JsonObject => ({
  ...{ user_id: '@u:x', device_id: deviceId, stream_id: streamId, prev_id: prev },
  ...more,
});

test('updates that build on one another are put in, in their order', () => {
  const updates = [
    update('B', 6, [5], { keys: { key: 'b' } }),
    update('A', 9, [6], { deleted: true }),
    update('B', 12, [9], { keys: { key: 'b2' } }),
  ];
  expect(withUpdates(kept, updates)).toEqual({
    ...{ streamId: 12, keys: { devices: { B: { key: 'b2' } }, masterKey: { key: 'm' } } },
  });
});

test('one that came before changes nothing', () => {
  expect(withUpdates(kept, [update('A', 5, [4], { keys: { key: 'a' } })])).toEqual(kept);
});

test.each([
  ['a gap', [update('B', 8, [7], { keys: {} })]],
  ['one that builds on nothing', [update('B', 6, [], { keys: {} })]],
  ['one without keys that is not deleted', [update('B', 6, [5])]],
  ['keys by which users vouch', [{ user_id: '@u:x', master_key: {} }]],
  ['what has no number', [update('B', 6.5, [5], { keys: {} })]],
  ['a gap after one that is none', [update('B', 6, [5], { keys: {} }), update('B', 8, [7], { keys: {} })]],
  ['a list that is none', [{ ...update('B', 6, [5], { keys: {} }), prev_id: 5 }]],
])('after %s the server has to be asked', (_what, updates) => {
  expect(withUpdates(kept, updates)).toBeUndefined();
});

test('what was said without a number is not built upon', () => {
  expect(withUpdates({ ...kept, streamId: null }, [update('B', 6, [5], { keys: {} })])).toBeUndefined();
});

test('no device reaches into a prototype', () => {
  const now = withUpdates(kept, [update('__proto__', 6, [5], { keys: { key: 'p' } })]);
  expect(Object.keys(now!.keys['devices'] as JsonObject).sort()).toEqual(['A', '__proto__']);
});

test('after updates that make it more than is kept of a user the server has to be asked', () => {
  const half = 'x'.repeat(40 * 1024);
  const first = withUpdates(kept, [update('B', 6, [5], { keys: { key: half } })]);
  expect(first).toMatchObject({ streamId: 6 });
  expect(withUpdates(first!, [update('C', 7, [6], { keys: { key: half } })])).toBeUndefined();
  expect(withUpdates(first!, [update('B', 7, [6], { keys: { key: half } })])).toMatchObject({ streamId: 7 });
});
