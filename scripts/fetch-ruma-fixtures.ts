/**
 * Gets the state resolution fixtures of the crate `ruma-state-res` (MIT) through cargo, into the cache folder; they are
 * not part of this project. `tsx scripts/fetch-ruma-fixtures.ts` prints where they are; the test that reads them calls
 * `rumaFixtures` itself.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cacheDirectory, cachedEntry } from '../src/launch/cache.ts';
import { type Environment, reasonOf } from '../src/launch/progress.ts';

const RUMA_STATE_RES_VERSION = '0.18.0';
/** On a machine that has none of the crate's dependencies yet they are downloaded, too. */
const CARGO_TIMEOUT_MS = 100_000;

const exec = promisify(execFile);

/** The folder with `fixtures` and `snapshots`, or why they cannot be had. */
export async function rumaFixtures(env: Environment): Promise<{ path: string } | { missing: string }> {
  try {
    const path = await cachedEntry({
      directory: cacheDirectory(env),
      name: `ruma-state-res-${RUMA_STATE_RES_VERSION}`,
      progress: () => undefined,
      build: vendorFixtures,
    });
    return { path };
  } catch (error) {
    return { missing: `cargo could not fetch ruma-state-res ${RUMA_STATE_RES_VERSION}: ${reasonOf(error)}` };
  }
}

/** A throw-away Cargo project depends on the crate and vendors it; only the fixtures are kept. */
async function vendorFixtures(into: string): Promise<void> {
  const project = await mkdtemp(join(tmpdir(), 'rejoinder-cargo-'));
  try {
    await mkdir(join(project, 'src'));
    await writeFile(join(project, 'src', 'lib.rs'), '');
    await writeFile(
      join(project, 'Cargo.toml'),
      `[package]\nname = "fixtures"\nversion = "0.0.0"\nedition = "2021"\n\n` +
        `[dependencies]\nruma-state-res = "=${RUMA_STATE_RES_VERSION}"\n`,
    );
    await exec('cargo', ['vendor', '--quiet', 'vendor'], { cwd: project, timeout: CARGO_TIMEOUT_MS });
    const tests = join(project, 'vendor', 'ruma-state-res', 'tests', 'it', 'resolve');
    for (const folder of ['fixtures', 'snapshots']) {
      await cp(join(tests, folder), join(into, folder), { recursive: true });
    }
  } finally {
    await rm(project, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = await rumaFixtures(process.env);
  console.log('path' in found ? found.path : found.missing);
  process.exit('path' in found ? 0 : 1);
}
