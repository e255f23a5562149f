import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { watchProcesses } from '../../../scripts/bench/process-watch.ts';
import { cpuSecondsOfTree, descendantsOf, readMemory, residentBytes } from '../../../scripts/bench/proc.ts';

/** Burns 0.3 s of processor time in a child of its own, holds 100 MB meanwhile, and lets go of them before it ends. */
const BURNER = `
  const { spawnSync } = require('node:child_process');
  spawnSync(process.execPath, ['-e', 'const end = process.cpuUsage().user + 3e5; while (process.cpuUsage().user < end);']);
  let held = Buffer.alloc(100 << 20, 1);
  process.stdout.write('done');
  process.stdin.once('data', () => process.exit());
`;

// What is tested reads Linux's /proc.
describe.runIf(process.platform === 'linux')('what processes use', () => {
  test('includes the time of children that have ended, and the most that was resident', async () => {
    const child = spawn(process.execPath, ['-e', BURNER], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      const stop = watchProcesses([{ name: 'burner', pid: child.pid! }]);
      await once(child.stdout, 'data');
      const [use] = stop().processes;
      expect(use!.cpuSeconds).toBeGreaterThan(0.28);
      expect(use!.peakBytes).toBeGreaterThan(100 << 20);
      expect(use!.idleBytes).toBeLessThan(100 << 20);
    } finally {
      child.kill();
    }
  });

  test('finds descendants with their command lines', async () => {
    const child = spawn('/bin/sh', ['-c', 'sleep 60; true'], { stdio: 'ignore', detached: true });
    try {
      await expect
        .poll(() => descendantsOf(process.pid).map(({ command }) => command.join(' ')), { interval: 5 })
        .toContain('sleep 60');
    } finally {
      process.kill(-child.pid!);
    }
  });

  test('counts nothing for a process that is gone', async () => {
    const child = spawn('/bin/true');
    await once(child, 'close');
    expect(cpuSecondsOfTree(child.pid!)).toBe(0);
    expect(residentBytes(child.pid!)).toBe(0);
    expect(readMemory(child.pid!).peakBytes).toBe(0);
  });
});
