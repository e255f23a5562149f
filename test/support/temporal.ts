/** The run's Temporal server, as a test file sees it: a client, and names that no other file uses. */
import { randomBytes } from 'node:crypto';
import { Client, Connection } from '@temporalio/client';
import { inject } from 'vitest';

export interface TestTemporal {
  readonly address: string;
  readonly namespace: string;
  readonly connection: Connection;
  readonly client: Client;
  /** This file's own task queue. */
  readonly taskQueue: string;
  /** Put before each workflow id, so that files can run side by side on the same rooms. */
  readonly workflowIdPrefix: string;
  close(): Promise<void>;
}

/** Connects to the server that test/support/global-setup.ts started. */
export async function connectTestTemporal(): Promise<TestTemporal> {
  const address = inject('temporalAddress');
  const namespace = inject('temporalNamespace');
  const connection = await Connection.connect({ address });
  const unique = randomBytes(6).toString('hex');
  return {
    address,
    namespace,
    connection,
    client: new Client({ connection, namespace }),
    taskQueue: `test-${unique}`,
    workflowIdPrefix: `${unique} `,
    close: () => connection.close(),
  };
}
