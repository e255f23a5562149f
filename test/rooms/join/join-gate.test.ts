import { expect, test, vi } from 'vitest';
import { createJoinGate } from '../../../src/rooms/join/join-gate.ts';

const signal = new AbortController().signal;

/** A join that ends when it is told to. */
function held() {
  let end: () => void = () => undefined;
  const done = new Promise<void>((resolve) => (end = resolve));
  return { done, end };
}

test('joins begin in the order they came, so many at a time', async () => {
  const gate = createJoinGate({ slots: 2 });
  const joins = Array.from({ length: 5 }, held);
  const begun: number[] = [];
  const runs = joins.map(({ done }, i) =>
    gate.run(signal, () => {
      begun.push(i);
      return done;
    }),
  );
  await vi.waitFor(() => expect(begun).toEqual([0, 1]));
  expect(gate).toMatchObject({ underWay: 2, waiting: 3 });
  joins[1]?.end();
  await runs[1];
  await vi.waitFor(() => expect(begun).toEqual([0, 1, 2]));
  joins.forEach(({ end }) => end());
  await Promise.all(runs);
  expect(begun).toEqual([0, 1, 2, 3, 4]);
  expect(gate).toMatchObject({ underWay: 0, waiting: 0 });
});

test('a join that fails gives its turn on', async () => {
  const gate = createJoinGate({ slots: 1 });
  const failing = gate.run(signal, () => Promise.reject(new Error('refused')));
  const next = gate.run(signal, () => Promise.resolve('joined'));
  await expect(failing).rejects.toThrow('refused');
  expect(await next).toBe('joined');
});

test('a silent resident keeps no other join from its turn', async () => {
  const gate = createJoinGate({ slots: 1, turnMs: 1 });
  const silent = held();
  const first = gate.run(signal, () => silent.done);
  expect(await gate.run(signal, () => Promise.resolve('joined'))).toBe('joined');
  expect(gate.underWay).toBe(1);
  silent.end();
  await first;
  expect(await gate.run(signal, () => Promise.resolve('joined'))).toBe('joined');
});

test('past a number of joins the next is told to come back', async () => {
  const gate = createJoinGate({ slots: 1, joinsMax: 2 });
  const first = held();
  const runs = [gate.run(signal, () => first.done), gate.run(signal, () => Promise.resolve())];
  await expect(gate.run(signal, () => Promise.resolve())).rejects.toMatchObject({
    kind: 'too-many',
    retryAfterMs: expect.any(Number),
  });
  first.end();
  await Promise.all(runs);
  await gate.run(signal, () => Promise.resolve());
});

test('who goes away while waiting leaves the queue, and his join never begins', async () => {
  const gate = createJoinGate({ slots: 1 });
  const first = held();
  const running = gate.run(signal, () => first.done);
  const caller = new AbortController();
  const gone = gate.run(caller.signal, () => Promise.reject(new Error('it began')));
  caller.abort(new Error('the caller went away'));
  await expect(gone).rejects.toThrow('the caller went away');
  expect(gate.waiting).toBe(0);
  first.end();
  await running;
});
