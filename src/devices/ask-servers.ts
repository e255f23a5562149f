/** Asks many servers at once, for as long as whoever waits wants to wait; who cannot be had costs the others nothing. */
import pLimit from 'p-limit';
import { FederationError } from '../federation/error.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { viewHealth } from '../rooms/resync/destination-health.ts';
import { type DevicesContext } from './context.ts';
import { type Patience } from './contract.ts';

/** Servers that are asked at a time for one caller. */
const SERVERS_AT_ONCE = 16;
/** However patient a client says that it is. */
const TIMEOUT_MS_MAX = 20_000;

/** A question to a server. */
export interface Question<Answer> {
  readonly serverName: ServerName;
  readonly ask: (signal: AbortSignal) => Promise<Answer>;
}

/** The answers that came in time, and of the other servers why there is none. */
export async function askServers<Answer>(
  context: DevicesContext,
  questions: readonly Question<Answer>[],
  { timeoutMs, signal }: Patience,
): Promise<{ readonly answers: readonly Answer[]; readonly failures: ReadonlyMap<ServerName, string> }> {
  const answers: Answer[] = [];
  const failures = new Map<ServerName, string>();
  if (questions.length === 0) return { answers, failures };
  const late = AbortSignal.timeout(Math.min(Math.max(timeoutMs, 0), TIMEOUT_MS_MAX));
  const ended = AbortSignal.any([signal, late]);
  const health = viewHealth(context);
  const limit = pLimit(SERVERS_AT_ONCE);
  await Promise.all(
    questions.map(({ serverName, ask }) =>
      limit(async () => {
        if (ended.aborted) return void failures.set(serverName, 'the server was not asked in time');
        try {
          answers.push(await health.ask(serverName, () => ask(ended)));
        } catch (error) {
          signal.throwIfAborted();
          if (late.aborted) failures.set(serverName, 'the server did not answer in time');
          else if (error instanceof FederationError) failures.set(serverName, error.kind);
          else throw error;
        }
      }),
    ),
  );
  signal.throwIfAborted();
  return { answers, failures };
}
