/**
 * Before the first test that needs them: one PostgreSQL (what it stores is thrown away) and one Temporal server in memory
 * for the whole run. Test files separate themselves: a database each (test/support/postgres.ts), a task queue and a
 * prefix of workflow ids each (test/support/temporal.ts).
 */
import { type TestProject } from 'vitest/node';
import { launchTemporal } from '../../src/launch/temporal.ts';
import { SEARCH_ATTRIBUTE_TYPES } from '../../src/temporal/names.ts';
import { startTestPostgres } from './postgres.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** `host:port` of the run's Temporal server. */
    readonly temporalAddress: string;
    readonly temporalNamespace: string;
  }
}

const NAMESPACE = 'rejoinder-test';

interface Servers {
  readonly postgresUrl: string;
  readonly temporalAddress: string;
  stop(): Promise<void>;
}

async function startServers(): Promise<Servers> {
  const [postgres, temporal] = await Promise.all([
    startTestPostgres(),
    launchTemporal({
      dataDirectory: 'memory',
      uiPort: 'none',
      namespace: NAMESPACE,
      searchAttributes: SEARCH_ATTRIBUTE_TYPES,
      env: process.env,
      progress: (line) => console.error(line),
    }),
  ]);
  return {
    postgresUrl: postgres.url,
    temporalAddress: temporal.address,
    stop: async () => {
      await Promise.all([postgres.stop(), temporal.stop()]);
    },
  };
}

/** Vitest calls this once for each project of vitest.config.ts that has a file to run; they share the servers. */
let shared: Promise<Servers> | undefined;
let users = 0;

export async function setup(project: TestProject): Promise<void> {
  users += 1;
  shared ??= startServers();
  const servers = await shared;
  project.provide('postgresUrl', servers.postgresUrl);
  project.provide('temporalAddress', servers.temporalAddress);
  project.provide('temporalNamespace', NAMESPACE);
}

export async function teardown(): Promise<void> {
  users -= 1;
  if (users > 0 || shared === undefined) return;
  await (await shared).stop();
}
