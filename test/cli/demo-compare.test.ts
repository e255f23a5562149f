import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { compareDigests } from '../../src/cli/demo/compare-digests.ts';
import { type OperatorClient } from '../../src/cli/operator-client.ts';

const client: Pick<OperatorClient, 'ask'> = {
  ask: (path) => {
    expect(path).toBe('/rooms/!r%3Aa/state');
    const body = {
      state: [
        { event_id: '$create', event: {} },
        { event_id: '$name', event: {} },
      ],
    };
    return Promise.resolve({ status: 200, body, text: '' });
  },
};
const member = (name: string, membership: string) => ({ user_id: `@${name}:a`, event_id: `$${name}`, membership });
const join = { roomId: '!r:a', members: [member('zoe', 'join'), member('bob', 'leave')] };
const digestOf = (...ids: string[]): string => createHash('sha256').update(ids.join('\n')).digest('hex');

test('a state is equal to that of the federation when all its events are, memberships or not', async () => {
  const truth = { digest: digestOf('$bob', '$create', '$name', '$zoe'), events: 4, joined: 1 };
  const { alike, differences, ours } = await compareDigests(client, join, truth);
  expect(ours).toBe(truth.digest);
  expect(differences).toEqual([]);
  expect(alike[0]).toBe("the federation's own state: 4 state events, 1 joined members");
});

test.each([
  ['an event that is missing here', ['$bob', '$create', '$name', '$yan', '$zoe']],
  ['an event that is only here', ['$create', '$name', '$zoe']],
  ['another event in a place', ['$bob', '$create', '$name', '$zoe2']],
])('%s makes a difference', async (_what, ids) => {
  const truth = { digest: digestOf(...ids), events: ids.length, joined: 1 };
  const { alike, differences } = await compareDigests(client, join, truth);
  expect(alike).toEqual([]);
  expect(differences).toHaveLength(1);
  expect(differences[0]).toContain(truth.digest);
});
