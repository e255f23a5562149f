/** Application services as the configuration registers them: their users, what they may do, and the loop that tells them. */
import { createAppServices } from '../../app-services/app-services.ts';
import { createServiceClient } from '../../app-services/ask-service.ts';
import { type AppServices, type ServiceSteering } from '../../app-services/contract.ts';
import { createMatching } from '../../app-services/matching.ts';
import { createSteering } from '../../app-services/steering.ts';
import { startTelling } from '../../app-services/telling.ts';
import { type Accounts } from '../../accounts/contract.ts';
import { AccountError } from '../../accounts/error.ts';
import { type Config } from '../../config.ts';
import { type Metrics } from '../../metrics.ts';
import { type RoomsContext } from '../../rooms/context.ts';
import { readServiceLags } from '../../store/tables/app-services.ts';
import { type Shutdown } from './shutdown.ts';

export interface AppServicesParts {
  readonly config: Config;
  readonly version: string;
  readonly rooms: RoomsContext;
  readonly accounts: Pick<Accounts, 'createUser'>;
  readonly metrics: Metrics;
  readonly shutdown: Shutdown;
}

/** Starts to tell them. `poke`: something happened. */
export async function startAppServices({
  config,
  version,
  rooms,
  accounts,
  metrics,
  shutdown,
}: AppServicesParts): Promise<{
  readonly appServices: AppServices;
  readonly steering: ServiceSteering;
  readonly poke: () => void;
}> {
  const { store, clock, random, logger, serverName } = rooms;
  const services = config.appServices;
  for (const { sender } of services) await ensureAccount(accounts, sender);
  const client = createServiceClient(`Rejoinder/${version}`);
  shutdown.add('client of application services', () => client.close());
  const matching = createMatching(services);
  const onFailure = (id: string): void => metrics.onServiceFailure(id);
  const telling = startTelling({ store, client, clock, random, logger, matching, onFailure }, services);
  shutdown.add('telling of application services', () => telling.close());
  const { looked } = telling;
  const poke = (): void => telling.poke();
  const told = services.flatMap(({ id, url }) => (url === null ? [] : [id]));
  metrics.watchAppServices(told, () => readServiceLags(store, told, looked));
  const retry = (id: string): void => telling.retry(id);
  return {
    appServices: createAppServices({ serverName, services, matching, client, clock, logger, retry }),
    steering: createSteering({ store, logger, services, looked, poke }),
    poke,
  };
}

async function ensureAccount(accounts: AppServicesParts['accounts'], name: string): Promise<void> {
  try {
    await accounts.createUser({ name, password: null, isAdmin: false });
  } catch (error) {
    if (!(error instanceof AccountError && error.kind === 'user-in-use')) throw error;
  }
}
