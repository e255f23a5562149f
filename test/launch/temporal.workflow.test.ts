import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type TemporalOptions, launchTemporal } from '../../src/launch/temporal.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rejoinder-temporal-test-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const progress = (): void => undefined;

function options(more: Partial<TemporalOptions> = {}): TemporalOptions {
  return { dataDirectory: 'memory', namespace: 'launched', env: process.env, progress, ...more };
}

async function attributes(address: string): Promise<string[]> {
  const connection = await Connection.connect({ address });
  try {
    const answer = await connection.operatorService.listSearchAttributes({ namespace: 'launched' });
    return Object.keys(answer.customAttributes);
  } finally {
    await connection.close();
  }
}

test('a server in memory answers for its namespace, with its UI and search attributes', async () => {
  const temporal = await launchTemporal(options({ searchAttributes: { RejoinderRoom: 'Keyword' } }));
  expect(await attributes(temporal.address)).toContain('RejoinderRoom');
  expect((await fetch(temporal.uiUrl!)).status).toBe(200);
  await temporal.stop();
  await expect(fetch(temporal.uiUrl!)).rejects.toThrow();
});

test('a server with a folder keeps what it knew, and its folder bears one server only', async () => {
  const dataDirectory = join(directory, 'kept');
  const first = await launchTemporal(options({ dataDirectory, searchAttributes: { Kept: 'Keyword' }, uiPort: 'none' }));
  expect(first.uiUrl).toBeUndefined();
  await expect(launchTemporal(options({ dataDirectory }))).rejects.toThrow(`in use by process ${process.pid}`);
  await first.stop();
  const second = await launchTemporal(options({ dataDirectory, uiPort: 'none' }));
  expect(await attributes(second.address)).toContain('Kept');
  await second.stop();
});

test('an occupied port is named', async () => {
  const first = await launchTemporal(options({ uiPort: 'none' }));
  const port = Number(first.address.split(':')[1]);
  await expect(launchTemporal(options({ port, uiPort: 'none' }))).rejects.toThrow(
    `port ${port} on 127.0.0.1 can't be used`,
  );
  await first.stop();
});

test('where no server can be had the error names all five rungs', async () => {
  // A Node that is no Node and no Go: the SDK's downloader fails at once, and so does the build.
  await writeFile(join(directory, 'go'), '#!/bin/sh\necho "go: error: no module proxy" >&2\nexit 1\n', { mode: 0o755 });
  const env = {
    PATH: `${directory}:/nowhere`,
    REJOINDER_CACHE_DIR: join(directory, 'cache'),
    HTTPS_PROXY: 'http://127.0.0.1:9',
  };
  const failed = launchTemporal(options({ env }));
  await expect(failed).rejects.toThrow(
    /TEMPORAL_ADDRESS.*on the PATH.*the cache.*SDK's downloader.*go install.*no module proxy/s,
  );
}, 120_000);
