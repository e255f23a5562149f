/** What one request of an errand is held against, and against whom. */
import { expect, onTestFinished, test, vi } from 'vitest';
import { type RequestOptions } from '../../../src/federation/contract.ts';
import { FederationError } from '../../../src/federation/error.ts';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { type RoomsContext } from '../../../src/rooms/context.ts';
import { beginAsking } from '../../../src/rooms/receive/ask.ts';
import { ANSWER_BYTES_MAX } from '../../../src/rooms/receive/budgets.ts';
import { silent } from '../../federation/tls-server.ts';

const A = 'a.test' as ServerName;
const TARPIT = 'tarpit.test' as ServerName;

function begin() {
  const received: number[] = [];
  const wereSilent: ServerName[] = [];
  const over = new AbortController();
  const context = { store: { query: () => Promise.resolve([]) }, clock: { now: () => 0 }, logger: silent };
  const asking = beginAsking(context as unknown as RoomsContext, {
    signal: over.signal,
    mayAsk: () => true,
    received: (_server, bytes) => received.push(bytes),
    wasSilent: (server) => wereSilent.push(server),
    isSilent: () => false,
  });
  return { ...asking, over, received, wereSilent };
}

/** The answer never comes. */
const hangs =
  (until: AbortController) =>
  ({ signal }: RequestOptions): Promise<Uint8Array> => {
    until.abort(new Error('not waited for any longer'));
    return Promise.reject(signal.reason as Error);
  };

test('whoever did not answer in time was silent, and nobody else', async () => {
  const timeUp = new AbortController();
  const timeout = vi.spyOn(AbortSignal, 'timeout').mockReturnValue(timeUp.signal);
  onTestFinished(() => timeout.mockRestore());
  const { ask, wereSilent } = begin();
  await ask(A, () => Promise.resolve(Buffer.from('{}')));
  expect(await ask(TARPIT, hangs(timeUp))).toBeUndefined();
  expect(wereSilent).toEqual([TARPIT]);
});

test('a server that is waited for when the time of the errand is over was not silent', async () => {
  const { ask, wereSilent, over } = begin();
  expect(await ask(A, hangs(over))).toBeUndefined();
  expect(wereSilent).toEqual([]);
});

test.each<[string, (options: RequestOptions) => void]>([
  ['is malformed', () => fail('malformed')],
  ['is cut off', () => fail('unreachable')],
  ['is too large', () => fail('too-large')],
])('the bytes of an answer that %s count as those of any other', async (_what, end) => {
  const { ask, received } = begin();
  const answer = (options: RequestOptions): Promise<Uint8Array> => {
    for (const bytes of [0, 60_000, 4_000]) options.onReceived?.(bytes);
    end(options);
    return Promise.resolve(Buffer.from('{}'));
  };
  expect(await ask(A, answer)).toBeUndefined();
  expect(received).toEqual([64_000]);
});

test('a useless answer of which nobody knows how long it was counts as the longest, and one that never began as nothing', async () => {
  const { ask, received } = begin();
  await ask(A, () => fail('malformed'));
  await ask(A, () => fail('unreachable'));
  expect(received).toEqual([ANSWER_BYTES_MAX, 0]);
});

function fail(kind: FederationError['kind']): never {
  throw new FederationError(A, kind, 'of no use');
}
