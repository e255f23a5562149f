import { expect, test } from 'vitest';
import { type FederationClient } from '../../src/federation/client.ts';
import { FederationError } from '../../src/federation/error.ts';
import { type RoomAlias, type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type FailureClass } from '../../src/resync/events.ts';
import { resolveAlias } from '../../src/rooms/aliases.ts';
import { type Store } from '../../src/store/open-store.ts';

const signal = new AbortController().signal;
const roomId = '!there:there.test' as RoomId;

function ask(alias: string, answer: () => Promise<{ roomId: RoomId; servers: ServerName[] }>) {
  const federation = { queryDirectory: answer } as unknown as FederationClient;
  const store = { query: () => Promise.resolve([]) } as unknown as Store;
  return resolveAlias({ serverName: 'here.test' as ServerName, federation, store }, alias as RoomAlias, signal);
}

test('the server of an alias is the first that may be in the room', async () => {
  const servers = ['other.test', 'there.test'] as ServerName[];
  expect(await ask('#room:there.test', () => Promise.resolve({ roomId, servers }))).toEqual({
    roomId,
    servers: ['there.test', 'other.test'],
  });
});

test('an alias of our own that nobody has is unknown, and nobody is asked', async () => {
  const asked = ask('#room:here.test', () => Promise.reject(new Error('was asked')));
  await expect(asked).rejects.toMatchObject({ name: 'RoomError', kind: 'unknown-alias' });
});

test.each<[FailureClass, string]>([
  ['not-found', 'unknown-alias'],
  ['unreachable', 'no-resident'],
  ['malformed', 'no-resident'],
])('an alias whose server fails with %s is told as %s', async (failure, kind) => {
  const asked = ask('#room:there.test', () =>
    Promise.reject(new FederationError('there.test' as ServerName, failure, 'it failed')),
  );
  await expect(asked).rejects.toMatchObject({ name: 'RoomError', kind });
});

test('a fault of ours is no answer about an alias', async () => {
  await expect(ask('#room:there.test', () => Promise.reject(new TypeError('a bug')))).rejects.toThrow('a bug');
});
