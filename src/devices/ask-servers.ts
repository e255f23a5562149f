/** Asks many servers at once, for as long as whoever waits wants to wait; who cannot be had costs the others nothing. */
import pLimit from 'p-limit';
import { FederationError } from '../federation/error.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { readDestinations } from '../store/tables/destinations.ts';
import { viewHealth } from '../rooms/resync/destination-health.ts';
import { type DevicesContext } from './context.ts';
import { type Patience } from './contract.ts';

/** Servers that are asked at a time for one caller. */
const SERVERS_AT_ONCE = 16;
/** However patient a client says that it is. */
const TIMEOUT_MS_MAX = 20_000;

/** One that says nothing keeps others from being asked for so long, or for half of the time where that is less. */
const SERVER_MS_MAX = 5_000;

/** A question to a server. */
export interface Question<Answer> {
  readonly serverName: ServerName;
  readonly ask: (signal: AbortSignal) => Promise<Answer>;
}

/**
 * The answers that came in time, and of the other servers why there is none. A server is asked `atOnce` questions at a time, and no more when it
 * has said nothing to one.
 */
export async function askServers<Answer>(
  context: DevicesContext,
  questions: readonly Question<Answer>[],
  { timeoutMs, signal }: Patience,
  atOnce = 1,
): Promise<{ readonly answers: readonly Answer[]; readonly failures: ReadonlyMap<ServerName, string> }> {
  const answers: Answer[] = [];
  const failures = new Map<ServerName, string>();
  if (questions.length === 0) return { answers, failures };
  const wholeMs = Math.min(Math.max(timeoutMs, 0), TIMEOUT_MS_MAX);
  const serverMs = Math.min(SERVER_MS_MAX, Math.ceil(wholeMs / 2));
  const late = AbortSignal.timeout(wholeMs);
  const ended = AbortSignal.any([signal, late]);
  const health = viewHealth(context);
  const limit = pLimit(SERVERS_AT_ONCE);
  const failing = await readDestinations(
    context.store,
    questions.map(({ serverName }) => serverName),
  );
  const askOne = async ({ serverName, ask }: Question<Answer>): Promise<'go on' | 'leave it'> => {
    if (ended.aborted) {
      failures.set(serverName, 'the server was not asked in time');
      return 'leave it';
    }
    const silent = AbortSignal.timeout(serverMs);
    try {
      answers.push(
        await health.ask(serverName, async () => {
          try {
            return await ask(AbortSignal.any([ended, silent]));
          } catch (error) {
            if (ended.aborted || !silent.aborted || error instanceof FederationError) throw error;
            // Of who was given less time than that nothing is known.
            const isSilence = serverMs === SERVER_MS_MAX;
            throw new FederationError(serverName, 'timeout', `no answer in ${serverMs} ms`, { isSilence });
          }
        }),
      );
    } catch (error) {
      signal.throwIfAborted();
      if (late.aborted) failures.set(serverName, 'the server did not answer in time');
      else if (error instanceof FederationError) failures.set(serverName, error.kind);
      else throw error;
      if (silent.aborted || late.aborted) return 'leave it';
    }
    return 'go on';
  };
  const ofServers = new Map<ServerName, Question<Answer>[]>();
  for (const question of questions) {
    const ofServer = ofServers.get(question.serverName);
    if (ofServer === undefined) ofServers.set(question.serverName, [question]);
    else ofServer.push(question);
  }
  const askAll = async (ofServer: readonly Question<Answer>[]): Promise<void> => {
    const left = [...ofServer];
    const work = async (): Promise<void> => {
      for (let question = left.shift(); question !== undefined; question = left.shift()) {
        if ((await askOne(question)) === 'leave it') left.length = 0;
      }
    };
    await Promise.all(Array.from({ length: atOnce }, work));
  };
  // Those that failed the last time are asked when the others have been.
  const isFailing = ([serverName]: readonly [ServerName, unknown]): number => (failing.has(serverName) ? 1 : 0);
  await Promise.all(
    [...ofServers]
      .toSorted((one, other) => isFailing(one) - isFailing(other))
      .map(([, ofServer]) => limit(() => askAll(ofServer))),
  );
  signal.throwIfAborted();
  return { answers, failures };
}
