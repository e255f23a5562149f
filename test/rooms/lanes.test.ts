import { describe, expect, test } from 'vitest';
import { createLanes } from '../../src/rooms/lanes.ts';

interface Gate {
  readonly opened: Promise<void>;
  readonly open: () => void;
  readonly fail: (error: Error) => void;
}

function gate(): Gate {
  let open!: () => void;
  let fail!: (error: Error) => void;
  const opened = new Promise<void>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { opened, open, fail };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('lanes', () => {
  test('starts no more tasks than there are lanes, and the next one when a task ends', async () => {
    const lanes = createLanes(2, new AbortController().signal);
    const gates = [gate(), gate(), gate()];
    const started: number[] = [];
    const starts = gates.map(({ opened }, i) => {
      return lanes.start(() => {
        started.push(i);
        return opened;
      });
    });
    await turn();
    expect(started).toEqual([0, 1]);
    gates[1]!.open();
    await Promise.all(starts);
    expect(started).toEqual([0, 1, 2]);
    for (const { open } of gates) open();
    await lanes.drain();
  });

  test('throws the first failure, when every task has ended, and aborts the others with it', async () => {
    const lanes = createLanes(2, new AbortController().signal);
    const failing = gate();
    let isAborted = false;
    await lanes.start(() => failing.opened);
    await lanes.start(
      () =>
        new Promise((resolve) =>
          lanes.signal.addEventListener('abort', () => {
            isAborted = true;
            setImmediate(resolve);
          }),
        ),
    );
    failing.fail(new Error('first'));
    await expect(lanes.drain()).rejects.toThrow('first');
    expect(isAborted).toBe(true);
    await expect(lanes.start(() => Promise.resolve())).rejects.toThrow('first');
  });

  test('ends with the signal it was given', async () => {
    const outer = new AbortController();
    const lanes = createLanes(1, outer.signal);
    outer.abort(new Error('gone'));
    await expect(lanes.start(() => Promise.resolve())).rejects.toThrow('gone');
    await expect(lanes.drain()).rejects.toThrow('gone');
  });
});
