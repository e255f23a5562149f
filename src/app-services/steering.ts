/**
 * What operators see of application services, and what they do about one that takes no more: a transaction that it refuses keeps all that
 * comes after it waiting, and the server may send it for ever. Skipping it is their decision; what the service is not told is logged.
 */
import { type Logger } from '../logging.ts';
import { type Store } from '../store/open-store.ts';
import {
  type ServiceLag,
  type ServiceState,
  readServiceLags,
  readServices,
  retryService,
  skipAll,
  skipTransaction,
} from '../store/tables/app-services.ts';
import { readToldIds } from '../store/tables/tellable-events.ts';
import { type ServiceDecision, type ServiceStatus, type ServiceSteering, type SkipOutcome } from './contract.ts';
import { type AppService } from './registration.ts';

export interface SteeringContext {
  readonly store: Store;
  readonly logger: Logger;
  readonly services: readonly AppService[];
  /** Up to where nothing else is of interest to services. */
  readonly looked: ReadonlyMap<string, number>;
  /** What waits is tried again. */
  readonly poke: () => void;
}

/** Puts it together for the operator API. */
export function createSteering(context: SteeringContext): ServiceSteering {
  const { store, logger, poke } = context;
  return {
    list: () => list(context),
    retry: async (serviceId, decision) => {
      if (!(await retryService(store, serviceId))) return false;
      logger.info({ service: serviceId, ...decision }, 'an application service is told again at once');
      poke();
      return true;
    },
    skip: (serviceId, txnId, decision) => skip(context, serviceId, txnId, decision),
    skipAll: async (serviceId, decision) => {
      const skipped = await skipAll(store, serviceId);
      if (skipped === undefined) return undefined;
      const { sent: after, upTo } = skipped;
      logger.warn({ service: serviceId, after, upTo, ...decision }, 'an application service is not told what waited');
      poke();
      return { after, upTo };
    },
  };
}

async function list({ store, services, looked }: SteeringContext): Promise<ServiceStatus[]> {
  const { services: states } = await readServices(store, null);
  const lags = await readServiceLags(
    store,
    states.map(({ serviceId }) => serviceId),
    looked,
  );
  const stateOf = new Map(states.map((state) => [state.serviceId, state]));
  const lagOf = new Map(lags.map((lag) => [lag.serviceId, lag]));
  const unregistered = states.filter(({ serviceId }) => !services.some(({ id }) => id === serviceId));
  return [
    ...services.map(({ id, url }) => statusOf(id, url, stateOf.get(id), lagOf.get(id))),
    ...unregistered.map((state) => ({
      ...statusOf(state.serviceId, null, state, lagOf.get(state.serviceId)),
      state: 'unregistered' as const,
    })),
  ];
}

function statusOf(
  id: string,
  url: string | null,
  state: ServiceState | undefined,
  lag: ServiceLag | undefined,
): ServiceStatus {
  const { transaction } = state ?? {};
  return {
    ...{ id, url, state: nameOf(url, state, lag), position: state?.sent ?? null },
    ...{ lag: lag?.positions ?? 0, oldestAt: lag?.oldestAt ?? null, failures: state?.failures ?? 0 },
    ...{ failedSince: state?.failedSince ?? null, lastFailure: state?.lastFailure ?? null },
    retryAt: state === undefined || state.retryAt === 0 ? null : state.retryAt,
    transaction:
      transaction === undefined
        ? null
        : {
            ...{ txnId: transaction.txnId, events: transaction.positions.length },
            ...{ ephemeral: transaction.ephemeral.length, madeAt: transaction.madeAt },
          },
  };
}

function nameOf(
  url: string | null,
  state: ServiceState | undefined,
  lag: ServiceLag | undefined,
): ServiceStatus['state'] {
  if (url === null) return 'not-told';
  if (state !== undefined && state.failures > 0) return 'failing';
  if (state?.transaction !== undefined || (lag?.positions ?? 0) > 0) return 'telling';
  return 'up-to-date';
}

async function skip(
  { store, logger, poke }: SteeringContext,
  serviceId: string,
  txnId: string,
  decision: ServiceDecision,
): Promise<SkipOutcome> {
  const { services } = await readServices(store, [serviceId]);
  const [state] = services;
  if (state === undefined) return { outcome: 'unknown' };
  const { transaction } = state;
  if (transaction?.txnId !== txnId) return { outcome: 'other', waiting: transaction?.txnId ?? null };
  const events = await readToldIds(store, transaction.positions);
  if (!(await skipTransaction(store, serviceId, txnId))) return { outcome: 'other', waiting: null };
  const { failures, lastFailure } = state;
  const fields = { service: serviceId, transaction: txnId, events, failures, lastFailure, ...decision };
  logger.warn(fields, 'an application service is not told a transaction: it was skipped');
  poke();
  return { outcome: 'skipped', events };
}
