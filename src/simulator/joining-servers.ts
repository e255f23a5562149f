/**
 * The servers outside of the simulation that join its rooms: reached at the host and port they are named by, their keys
 * fetched from them once, and again when they name another.
 */
import { rootCertificates } from 'node:tls';
import { Agent, type Dispatcher } from 'undici';
import { type Clock } from '../clock.ts';
import { verifyKeyOf } from '../federation/known-keys.ts';
import { readKeyAnswer } from '../federation/key-answer.ts';
import { readBody } from '../federation/read-body.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';
import { type KeyResolver, type KnownKey } from '../verification/contract.ts';

/** For each request; a joining server may be busy verifying. */
const REQUEST_TIMEOUT_MS = 30_000;
/** An answer to a transaction names each of its PDUs; keys are far smaller. */
const ANSWER_BYTES_MAX = 1_000_000;

export interface JoinersRequest {
  readonly method: 'GET' | 'PUT';
  readonly path: string;
  readonly authorization?: string;
  readonly body?: string;
  readonly signal?: AbortSignal;
}

export interface JoiningServers {
  readonly resolveKeys: KeyResolver;
  /** Status and body of an answer of any status. Throws when none comes. */
  ask(serverName: ServerName, request: JoinersRequest): Promise<{ readonly status: number; readonly body: Buffer }>;
  close(): Promise<void>;
}

/** The servers under test; `authorityPem`: whose certificates are believed besides those of the system. */
export function createJoiningServers(authorityPem: string | undefined, clock: Clock): JoiningServers {
  const agent = new Agent({
    connect: authorityPem === undefined ? {} : { ca: [...rootCertificates, authorityPem] },
    headersTimeout: REQUEST_TIMEOUT_MS,
    bodyTimeout: REQUEST_TIMEOUT_MS,
  });
  const known = new Map<ServerName, readonly KnownKey[]>();
  const fetching = new Map<ServerName, Promise<readonly KnownKey[]>>();

  const ask: JoiningServers['ask'] = async (serverName, { method, path, authorization, body, signal }) => {
    const tooLate = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const options: Dispatcher.RequestOptions = {
      origin: `https://${serverName}`,
      method,
      path,
      signal: signal === undefined ? tooLate : AbortSignal.any([signal, tooLate]),
      headers: {
        ...(authorization === undefined ? {} : { authorization }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body }),
    };
    const answer = await agent.request(options);
    return { status: answer.statusCode, body: await readBody(answer.body, ANSWER_BYTES_MAX) };
  };

  const fetchKeys = async (serverName: ServerName): Promise<readonly KnownKey[]> => {
    try {
      const answer = await ask(serverName, { method: 'GET', path: '/_matrix/key/v2/server' });
      const parsed = parseJsonObject(answer.body);
      const reading = parsed.ok ? readKeyAnswer(parsed.value, clock.now()) : parsed;
      const keys = reading.ok && reading.serverName === serverName ? reading.keys : [];
      known.set(serverName, keys);
      return keys;
    } catch {
      // Who cannot be asked has no keys: its requests are refused, and say so.
      return [];
    } finally {
      fetching.delete(serverName);
    }
  };
  const fetchOnce = (serverName: ServerName): Promise<readonly KnownKey[]> => {
    const running = fetching.get(serverName) ?? fetchKeys(serverName);
    fetching.set(serverName, running);
    return running;
  };

  return {
    ask,
    async resolveKeys(requests) {
      const found = requests.map(async ({ serverName, keyId, validAtTs }) => {
        const fits = (key: KnownKey): boolean => key.keyId === keyId && key.validUntilTs >= validAtTs;
        return known.get(serverName)?.find(fits) ?? (await fetchOnce(serverName)).find(fits);
      });
      return (await Promise.all(found)).filter((key) => key !== undefined).map((key) => verifyKeyOf(key, clock.now()));
    },
    close: () => agent.destroy(),
  };
}
