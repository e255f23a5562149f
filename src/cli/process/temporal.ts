/** Temporal for a command that cannot do without it. */
import { type Tracer } from '@opentelemetry/api';
import { type TemporalClient, type TemporalTarget, connectTemporal } from '../../temporal/client.ts';
import { CliError } from '../failure.ts';

/** Throws `CliError` when no server answers. */
export async function requireTemporal(target: TemporalTarget, tracer?: Tracer): Promise<TemporalClient> {
  return connectTemporal(target, tracer).catch((error: unknown) => {
    throw new CliError(
      `no Temporal server answers at ${target.address}: ${error instanceof Error ? error.message : String(error)}`,
      {
        hint: 'Start one ("temporal server start-dev", or "rejoinder up" for all at once), or correct temporal.address.',
        cause: error,
      },
    );
  });
}
