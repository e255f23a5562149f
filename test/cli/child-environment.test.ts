import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { variablesOf } from '../../src/cli/up/environment.ts';
import { startPart } from '../../src/cli/up/part.ts';
import { loadSettings } from '../../src/config.ts';
import { withoutSettings } from '../../src/config/sources.ts';

const settings = {
  server_name: 'localhost:8448',
  data_directory: '/somewhere',
  listeners: { federation: { port: 1234, tls: { certificate_path: '/a.pem', private_key_path: '/b.pem' } } },
  database: { url: 'postgres://a:p%40ss@localhost:5432/x' },
  trusted_key_servers: [],
  federation: { allowed_ip_ranges: ['127.0.0.0/8', '::1/128'] },
};

test('a child process reads the settings it was handed, whatever its own environment says', () => {
  const env = { REJOINDER_LISTENERS_FEDERATION_PORT: '1', ...variablesOf(settings) };
  expect(loadSettings({ env }).settings).toMatchObject(settings);
});

test('a server of its own takes nothing from the configured one, and the rest of the environment stays', () => {
  const kept = { PATH: '/bin', REJOINDER_CACHE_DIR: '/cache', REJOINDER_DEBUG: '1' };
  const configured = {
    ...variablesOf(settings),
    DATABASE_URL: 'postgres://localhost/x',
    TEMPORAL_ADDRESS: 'localhost:7233',
    REJOINDER_CONFIG: '/x.yaml',
    REJOINDER_URL: 'http://localhost:1',
  };
  expect(withoutSettings({ ...kept, ...configured })).toEqual(kept);
});

test('a process that ends unasked is told of with its last words, one that is asked to stop is not', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rejoinder-part-'));
  try {
    const start = (script: string) =>
      startPart({
        name: 'serve',
        self: ['/bin/sh', '-c', script],
        env: { PATH: process.env['PATH'] },
        logFile: join(folder, 'serve.log'),
      });
    const dying = await start(`echo '{"level":"info"}'; echo 'error: the port is taken'; exit 3`);
    await expect(dying.failed).rejects.toMatchObject({
      message: 'rejoinder serve exited with 3',
      hint: `error: the port is taken\nThe whole log: ${join(folder, 'serve.log')}`,
    });
    await expect(dying.waitUntilReady(() => Promise.resolve(false))).rejects.toThrow('exited with 3');

    const asked = await start('exec sleep 60');
    await asked.stop();
    const outcome = await Promise.race([asked.failed, new Promise((resolve) => setImmediate(() => resolve('silent')))]);
    expect(outcome).toBe('silent');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
