/** The operator API as commands use it: where the server is, which token opens it, and errors a person can act on. */
import { Agent, request } from 'undici';
import { type Config, loadConfig } from '../config.ts';
import { readSecretFile } from '../secret-file.ts';
import { CliError } from './failure.ts';
import { printable } from './output.ts';
import { type ServerEvent, readServerEvents } from './server-events.ts';
import { UP_DEFAULTS } from './defaults.ts';
import { type Environment } from '../config/sources.ts';

/** The server says that it lives every 15 s. */
const SILENCE_MS_MAX = 60_000;

export interface ClientOptions {
  readonly env: Environment;
  readonly config?: string;
  readonly url?: string;
}

export interface ApiAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  /** The body as it came. */
  readonly text: string;
}

export interface OperatorClient {
  /** Throws `CliError` for anything but the status 200 and those in `expected`. */
  ask(path: string, options?: { readonly post?: object; readonly expected?: readonly number[] }): Promise<ApiAnswer>;
  /**
   * Follows server-sent events until the signal is aborted, then ends. Throws `LostConnectionError` where trying again may
   * help, and `CliError` where it does not.
   */
  follow(path: string, options: FollowOptions): AsyncIterable<ServerEvent>;
  close(): Promise<void>;
}

export interface FollowOptions {
  /** Of the last event that was had; absent: none was. */
  readonly lastEventId?: string | undefined;
  readonly signal: AbortSignal;
}

/** The server cannot be reached, or not now; another try may help. */
export class LostConnectionError extends CliError {}

/** Finds server and token: `--url` or REJOINDER_URL, else the listener in the configuration; the token likewise there. */
export async function connectOperator(options: ClientOptions): Promise<OperatorClient> {
  const config = loadConfig({ path: options.config, env: options.env, defaults: UP_DEFAULTS });
  const base = new URL(options.url ?? options.env['REJOINDER_URL'] ?? listenerUrl(config));
  const { token, source } = await findToken(config);
  // A join of a room with full state may take minutes; the server bounds what it waits for.
  const agent = new Agent({ headersTimeout: 0, bodyTimeout: 0 });

  return {
    ask: async (path, { post, expected = [] } = {}) => {
      const url = new URL(`/_rejoinder/v1${path}`, base);
      const authorization = `Bearer ${token}`;
      const { statusCode: status, body: stream } = await request(url, {
        dispatcher: agent,
        ...(post === undefined
          ? { method: 'GET', headers: { authorization } }
          : {
              method: 'POST',
              headers: { authorization, 'content-type': 'application/json' },
              body: JSON.stringify(post),
            }),
      }).catch((error: unknown) => {
        throw unreachable(base, error);
      });
      const text = await stream.text().catch((error: unknown) => {
        throw new CliError(`the answer of ${base.origin} broke off`, {
          hint: 'The log of the server says why.',
          cause: error,
        });
      });
      const body = parseObject(text);
      if (body !== undefined && (status === 200 || expected.includes(status))) return { status, body, text };
      throw refused(base, status, body, source);
    },
    async *follow(path, { lastEventId, signal }) {
      const url = new URL(`/_rejoinder/v1${path}`, base);
      const headers = {
        authorization: `Bearer ${token}`,
        accept: 'text/event-stream',
        ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
      };
      try {
        const options = { dispatcher: agent, headers, signal, bodyTimeout: SILENCE_MS_MAX };
        const { statusCode: status, body } = await request(url, options);
        if (status === 200) yield* readServerEvents(body);
        else throw whyRefused(base, status, parseObject(await body.text()), source);
      } catch (error) {
        if (signal.aborted) return;
        throw error instanceof CliError ? error : unreachable(base, error);
      }
      throw new LostConnectionError(`${base.origin} ended the connection`);
    },
    close: () => agent.close(),
  };
}

function listenerUrl({ listeners }: Config): string {
  const { host, port } = listeners.operator;
  if (port === 0) {
    throw new CliError('the operator listener takes any free port, so this command cannot know it', {
      hint: 'Say where the server is: --url http://127.0.0.1:PORT',
      exitCode: 2,
    });
  }
  const reachable = host === '0.0.0.0' || host === '::' ? 'localhost' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}

async function findToken({ operator }: Config): Promise<{ token: string; source: string }> {
  if (operator.token !== null) return { token: operator.token, source: 'operator.token of the configuration' };
  const token = await readSecretFile(operator.tokenPath);
  if (token !== undefined) return { token, source: operator.tokenPath };
  throw new CliError(`there is no operator token at ${operator.tokenPath}`, {
    hint: 'Start the server once from this folder (rejoinder up), or set REJOINDER_OPERATOR_TOKEN.',
  });
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** What is refused for a while only is another thing than what is refused for good. */
function whyRefused(
  base: URL,
  status: number,
  body: Record<string, unknown> | undefined,
  tokenSource: string,
): CliError {
  const error = refused(base, status, body, tokenSource);
  return status === 429 || status >= 500 ? new LostConnectionError(error.message, { cause: error }) : error;
}

function unreachable(base: URL, error: unknown): LostConnectionError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
  return new LostConnectionError(`no server answers at ${base.origin} (${code})`, {
    hint: 'Start it with "rejoinder up" or "rejoinder serve", or say where it is with --url.',
    cause: error,
  });
}

function refused(base: URL, status: number, body: Record<string, unknown> | undefined, tokenSource: string): CliError {
  const { errcode, error } = body ?? {};
  if (typeof errcode !== 'string' || typeof error !== 'string') {
    return new CliError(`${base.origin} is no Rejoinder: it answered with status ${status} and something else`, {
      hint: 'Say where the operator listener is with --url.',
    });
  }
  if (status === 401) {
    return new CliError(`${base.origin} does not know the token from ${tokenSource}`, {
      hint: 'Run the command where the server keeps its data, or set REJOINDER_OPERATOR_TOKEN.',
    });
  }
  return new CliError(`${printable(error)} (${printable(errcode)})`, { exitCode: status === 400 ? 2 : 1 });
}
