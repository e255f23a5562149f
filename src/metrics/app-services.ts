/** The gauges of how far application services are behind. */
import { type Gauge } from 'prom-client';
import { type Clock } from '../clock.ts';
import { type ServiceLag } from '../store/tables/app-services.ts';
import { type LagNumber } from './instruments.ts';
import { type PartialRoomsLogger, askNowAndThen } from './partial-rooms.ts';

/** What sets them; all services share one question. */
export function collectLags(
  read: () => Promise<readonly ServiceLag[]>,
  clock: Clock,
  logger: PartialRoomsLogger,
): (gauge: Gauge<'service'>, number: LagNumber) => Promise<void> {
  const ask = askNowAndThen(read, clock, logger, 'how far application services are behind is not known; it is absent');
  return async (gauge, number) => {
    const lags = await ask();
    gauge.reset();
    for (const { serviceId: service, positions, oldestAt } of lags ?? []) {
      const age = oldestAt === null ? 0 : Math.max(0, clock.now() - oldestAt) / 1000;
      gauge.set({ service }, { positions, age }[number]);
    }
  };
}
