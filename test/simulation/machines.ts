/** Machines to simulate on: a PostgreSQL for all, a verification thread for those of a process, a database and a clock for each. */
import { type LocalPostgres, launchPostgres } from '../../src/launch/postgres.ts';
import { migrate } from '../../src/store/migrate.ts';
import { createVerificationPool } from '../../src/verification/pool.ts';
import { inDatabase, run } from '../support/databases.ts';
import { openConnections } from './connections.ts';
import { CONNECTIONS_MAX, type Machine, SimulatedClock, stopRealTimeouts } from './process.ts';
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

const TEMPLATE = 'simulation_template';

/** A PostgreSQL to simulate on, in `folder`. */
export function openServer(folder: string): Promise<LocalPostgres> {
  return launchPostgres({
    dataDirectory: folder,
    durability: 'throw-away',
    env: process.env,
    progress: () => undefined,
  });
}

/** Machines on a server that runs already, by the address of its superuser. */
export async function machinesOn(url: string): Promise<Machines> {
  stopRealTimeouts();
  const template = `${TEMPLATE}_${process.pid}`;
  await run(url, `CREATE DATABASE ${template}`);
  await migrate(inDatabase(url, template));
  const verification = createVerificationPool({ threads: 1 });
  let opened = 0;
  return {
    open: async () => {
      opened += 1;
      const name = `simulation_${process.pid}_${opened}`;
      await run(url, `CREATE DATABASE ${name} TEMPLATE ${template}`);
      const databaseUrl = inDatabase(url, name);
      const clock = await SimulatedClock.install(databaseUrl, BEGINNING);
      const connections = openConnections(databaseUrl, CONNECTIONS_MAX);
      return {
        ...{ databaseUrl, connections, verification, clock },
        close: async () => {
          await connections.close();
          await clock.close();
          await run(url, `DROP DATABASE ${name} WITH (FORCE)`);
        },
      };
    },
    close: async () => {
      await verification.close();
      await run(url, `DROP DATABASE ${template} WITH (FORCE)`);
    },
  };
}
