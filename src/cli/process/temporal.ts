/** Temporal for a command that cannot do without it. */
import { type Tracer } from '@opentelemetry/api';
import { type Logger } from '../../logging.ts';
import { type TemporalClient, connectTemporal } from '../../temporal/client.ts';
import { type TemporalTarget, openConnection } from '../../temporal/connection.ts';
import { NamespaceError, ensureNamespace, isRefused, isUnauthenticated } from '../../temporal/namespace.ts';
import {
  missingSearchAttributes,
  registerSearchAttributes,
  searchAttributesByHand,
} from '../../temporal/search-attributes.ts';
import { CliError } from '../failure.ts';

/** Throws `CliError` when no server answers, or it has no such namespace. */
export async function requireTemporal(target: TemporalTarget, tracer?: Tracer): Promise<TemporalClient> {
  return connectTemporal(target, tracer).catch((error: unknown) => {
    throw cannotUse(target, error);
  });
}

/**
 * Makes the namespace and the search attributes that are missing, as far as the server lets us, and tells what it did, or what is
 * to be done by hand. Throws `CliError` when no server answers, or there is no namespace and we may not make it.
 */
export async function prepareTemporal(target: TemporalTarget, say: (line: string) => void): Promise<void> {
  const { namespace } = target;
  const { connection, close } = await openConnection(target).catch((error: unknown) => {
    throw cannotUse(target, error);
  });
  try {
    if (await ensureNamespace(connection, namespace)) say(`temporal: namespace ${namespace} made`);
    await registerSearchAttributes(connection, namespace);
    say(`temporal: search attributes registered in namespace ${namespace}`);
  } catch (error) {
    if (error instanceof NamespaceError) throw cannotUse(target, error);
    if (!isRefused(error)) throw error;
    say(
      `temporal: ${target.address} does not let us look at search attributes; make them by hand, where they are missing: ${searchAttributesByHand(namespace)}`,
    );
  } finally {
    await close();
  }
}

/** Throws `CliError` when search attributes are missing, without which no workflow gets on; warns where the server does not tell. */
export async function requireSearchAttributes(
  { connection }: Pick<TemporalClient, 'connection'>,
  { address, namespace }: TemporalTarget,
  logger: Logger,
): Promise<void> {
  try {
    const missing = await missingSearchAttributes(connection, namespace);
    if (missing.length === 0) return;
    throw new CliError(`namespace ${namespace} at ${address} lacks the search attributes ${missing.join(', ')}`, {
      hint: 'Register them: rejoinder migrate',
    });
  } catch (error) {
    if (!isRefused(error)) throw error;
    logger.warn(
      { err: error, address, byHand: searchAttributesByHand(namespace) },
      'Temporal does not let us look at search attributes: rooms stay partial where they are missing',
    );
  }
}

function cannotUse({ address }: TemporalTarget, error: unknown): CliError {
  const why = reasonOf(error);
  if (error instanceof NamespaceError) return new CliError(`Temporal at ${address}: ${why}`, { cause: error });
  if (isUnauthenticated(error) || isRefused(error)) {
    return new CliError(`Temporal at ${address} refuses us: ${why}`, {
      hint: 'Correct temporal.api_key_path, or the certificate of temporal.tls.',
      cause: error,
    });
  }
  return new CliError(`no Temporal server answers at ${address}: ${why}`, {
    hint: 'Start one ("temporal server start-dev", or "rejoinder up" for all at once), or correct temporal.address.',
    cause: error,
  });
}

/** With what it was caused by, which tells more than that a connection failed. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}
