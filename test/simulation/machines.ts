/** Machines to simulate on: a PostgreSQL for all, one verification for those of a process, a database and a clock for each. */
import { type LocalPostgres, launchPostgres } from '../../src/launch/postgres.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { openShadows } from '../../src/store/journal/rebuild.ts';
import { migrate } from '../../src/store/migrate.ts';
import { createVerificationPool } from '../../src/verification/pool.ts';
import { inDatabase, run } from '../support/databases.ts';
import { openConnections } from './connections.ts';
import { CONNECTIONS_MAX, type Machine, SimulatedClock, stopRealTimeouts } from './process.ts';
import { threadInOurs } from './thread-in-ours.ts';
import { BEGINNING } from './world.ts';

/** A machine that takes its database with it when it goes. */
export interface OwnMachine extends Machine {
  close(): Promise<void>;
}

export interface Machines {
  /** One more, with an empty database. */
  open(): Promise<OwnMachine>;
  /** Those that are open are to be closed before. */
  close(): Promise<void>;
}

const NOBODY = 'nobody.sim' as ServerName;
const TEMPLATE = 'simulation_template';

/** A PostgreSQL to simulate on, in `folder`, with the database that those of all machines are copies of. */
export async function openServer(folder: string): Promise<LocalPostgres> {
  const server = await launchPostgres({
    dataDirectory: folder,
    durability: 'throw-away',
    bySocket: true,
    env: process.env,
    progress: () => undefined,
  });
  await run(server.databaseUrl, `CREATE DATABASE ${TEMPLATE}`);
  await migrate(inDatabase(server.databaseUrl, TEMPLATE));
  return server;
}

/** Machines on such a server, which runs already, by the address of its superuser. */
export function machinesOn(url: string): Machines {
  stopRealTimeouts();
  const verification = createVerificationPool({ threads: 1, startThread: threadInOurs });
  let opened = 0;
  return {
    open: async () => {
      opened += 1;
      const name = `simulation_${process.pid}_${opened}`;
      await run(url, `CREATE DATABASE ${name} TEMPLATE ${TEMPLATE}`);
      const databaseUrl = inDatabase(url, name);
      const clock = await SimulatedClock.install(databaseUrl, BEGINNING);
      const connections = openConnections(databaseUrl, CONNECTIONS_MAX);
      const shadows = await openShadows({ databaseUrl, serverName: NOBODY });
      return {
        ...{ databaseUrl, connections, verification, clock, shadows },
        close: async () => {
          await shadows.close();
          await connections.close();
          await clock.close();
          await run(url, `DROP DATABASE ${name} WITH (FORCE)`);
        },
      };
    },
    close: () => verification.close(),
  };
}
