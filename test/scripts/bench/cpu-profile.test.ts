import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { threadTime } from '../../../scripts/bench/cpu-profile.ts';

const frame = (functionName: string, url = ''): { functionName: string; url: string; lineNumber: number } => ({
  functionName,
  url,
  lineNumber: 0,
});

/** main → verifyText (ed25519) → verifyOneShot of Node → a native; main → JSON reading of an unnamed native; idle. */
const profile = {
  startTime: 1_000_000,
  nodes: [
    { id: 1, callFrame: frame('(root)'), children: [2, 6, 7] },
    { id: 2, callFrame: frame('run', 'file:///x/dist/src/verification/thread.js'), children: [3, 5] },
    { id: 3, callFrame: frame('verifyWith', 'file:///x/dist/src/matrix/signing/ed25519.js'), children: [4] },
    { id: 4, callFrame: frame('update', 'node:buffer') },
    { id: 5, callFrame: frame('parse', 'file:///x/dist/src/matrix/json/strict-json.js'), children: [8] },
    { id: 6, callFrame: frame('(idle)') },
    { id: 7, callFrame: frame('(garbage collector)') },
    { id: 8, callFrame: frame('stringify') },
  ],
  samples: [3, 4, 8, 6, 7, 2],
  timeDeltas: [100_000, 200_000, 300_000, 400_000, 50_000, 70_000],
};
const always = { fromUs: 0, toUs: Number.MAX_SAFE_INTEGER };

describe('shares of a CPU profile', () => {
  test('are told by files that there are', () => {
    const files = profile.nodes.flatMap(({ callFrame }) => /(src\/.*)\.js$/.exec(callFrame.url)?.[1] ?? []);
    const existing = files.filter((file) => existsSync(fileURLToPath(new URL(`../../../${file}.ts`, import.meta.url))));
    expect(existing).toEqual(files);
    expect(files).toHaveLength(3);
  });

  test('gives the time of builtins to the nearest caller that has a share', () => {
    const { shares } = threadTime(profile, false, always);
    expect(Object.fromEntries(shares)).toEqual({
      verification: expect.closeTo(0.3) as number,
      parsing: expect.closeTo(0.3) as number,
      'garbage collection': expect.closeTo(0.05) as number,
      'passing between threads': expect.closeTo(0.07) as number,
    });
  });

  test('leaves idle time out of the busy seconds', () => {
    expect(threadTime(profile, false, always).busySeconds).toBeCloseTo(0.72);
  });

  test('counts the samples between two moments only', () => {
    const { shares } = threadTime(profile, false, { fromUs: 1_150_000, toUs: 1_650_000 });
    expect([...shares.keys()]).toEqual(['verification', 'parsing']);
    expect(shares.get('verification')).toBeCloseTo(0.2);
  });

  test('tells a verification thread by its entry', () => {
    expect(threadTime(profile, false, always).thread).toBe('verification');
    expect(threadTime(profile, true, always).thread).toBe('main');
  });

  test('names the hottest functions with their files below dist', () => {
    expect(threadTime(profile, false, always).hottest[0]).toEqual({
      name: 'stringify',
      file: '',
      seconds: expect.closeTo(0.3) as number,
    });
    expect(threadTime(profile, false, always).hottest.map(({ file }) => file)).toContain(
      'dist/src/matrix/signing/ed25519.js',
    );
  });
});
