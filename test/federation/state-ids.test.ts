import { expect, test } from 'vitest';
import { type EventStream } from '../../src/federation/contract.ts';
import { FederationError } from '../../src/federation/error.ts';
import { type STATE_IDS_ARRAYS, readStateIds } from '../../src/federation/state-ids.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { rulesOf } from '../matrix/sample-event.ts';

const resident = 'resident.test' as ServerName;
const idOf = (i: number): string => `$${String(i).padStart(43, '0')}`;

/** An answer that ends only when its reader leaves it, unless `batches` says how many there are. */
function answerOf(textsOf: (batch: number) => readonly string[], batches = Infinity) {
  const seen = { batches: 0, isLeft: false };
  async function* read() {
    try {
      for (let i = 0; i < batches; i++) {
        seen.batches += 1;
        await Promise.resolve();
        yield { array: 'pdu_ids' as const, events: textsOf(i).map((text) => Buffer.from(JSON.stringify(text))) };
      }
    } finally {
      seen.isLeft = true;
    }
  }
  const events = { pdu_ids: 0, auth_chain_ids: 0 };
  const stream: EventStream<(typeof STATE_IDS_ARRAYS)[number]> = {
    [Symbol.asyncIterator]: read,
    summary: () => ({ bytes: 0, events, dropped: 0, rest: new Map() }),
  };
  return { stream, seen };
}

test('an answer with more ids than any room has is left when they are over', async () => {
  const { stream, seen } = answerOf((batch) => Array.from({ length: 100 }, (_, i) => idOf(100 * batch + i)));
  const failure = await readStateIds(resident, stream, rulesOf('11'), 1_000).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(FederationError);
  expect(failure).toMatchObject({ kind: 'too-large' });
  expect(seen).toEqual({ batches: 11, isLeft: true });
});

test('the same id again is no further one', async () => {
  const { stream } = answerOf(() => [idOf(1), idOf(2)], 5_000);
  const { stateIds } = await readStateIds(resident, stream, rulesOf('11'), 1_000);
  expect([...stateIds]).toEqual([idOf(1), idOf(2)]);
});

test.each([
  ['1', '$a:example.org', true],
  ['2', `$${'é'.repeat(120)}:example.org`, true],
  ['1', '$a', false],
  ['1', `$${'a'.repeat(250)}:x.org`, false],
  ['2', idOf(1), false],
  ['3', `$${'+/'.repeat(21)}a`, true],
  ['3', `$${'-_'.repeat(21)}a`, false],
  ['4', `$${'-_'.repeat(21)}a`, true],
  ['4', `$${'+/'.repeat(21)}a`, false],
  ['4', '$abcd', false],
  ['11', idOf(1), true],
  ['11', `${idOf(1)}x`, false],
  ['12', '$a:example.org', false],
])('in a room of version %s %s is an id: %s', async (version, text, isId) => {
  const { stream } = answerOf(() => [text], 1);
  const reading = readStateIds(resident, stream, rulesOf(version)).then(({ stateIds }) => [...stateIds]);
  if (isId) expect(await reading).toEqual([text]);
  else await expect(reading).rejects.toMatchObject({ kind: 'malformed' });
});
