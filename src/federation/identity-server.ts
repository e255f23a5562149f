/**
 * Requests to identity servers, and to whatever else somebody wrote in their place: https only, to addresses that the rules allow, without
 * redirects, and bounded in time and size as requests to homeservers are. They are asked by their URL; nothing is discovered.
 *
 * Source: https://spec.matrix.org/v1.16/identity-service-api/
 */
import { type Dispatcher } from 'undici';
import { type Clock } from '../clock.ts';
import { type ServerName, parseServerName } from '../matrix/identifiers.ts';
import { parseJson, parseJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type IdentityAsk, type RequestOptions } from './contract.ts';
import { createDeadline } from './deadline.ts';
import { FederationError, errorOfAnswer } from './error.ts';
import { readBody } from './read-body.ts';
import { type FederationTimeouts } from './requests.ts';
import { toFederationError } from './transport.ts';

/** Answers are a few names and keys. */
const ANSWER_BYTES_MAX = 64 * 1024;

interface IdentityDependencies {
  readonly agent: Dispatcher;
  readonly userAgent: string;
  readonly clock: Clock;
  readonly timeouts: Pick<FederationTimeouts, 'requestMs' | 'idleMs'>;
}

/** @throws FederationError, whose server is the host of the URL; or what the signal is aborted with */
export async function askIdentityServer(
  { agent, userAgent, clock, timeouts }: IdentityDependencies,
  { method, url: text, content, token }: IdentityAsk,
  { signal, onReceived = () => undefined }: RequestOptions,
): Promise<JsonObject> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const host = parseServerName(url?.host);
  if (url?.protocol !== 'https:' || host === undefined || url.username !== '' || url.password !== '') {
    throw new FederationError('.' as ServerName, 'refused-by-policy', 'that is no https URL of a server');
  }
  signal.throwIfAborted();
  const what = `${method} ${url.pathname}`;
  const deadline = createDeadline(signal, timeouts.requestMs);
  let hasAnswered = false;
  try {
    const answer = await agent.request({
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method,
      headers: {
        ...{ 'user-agent': userAgent, accept: 'application/json', 'accept-encoding': 'identity' },
        ...(content === undefined ? {} : { 'content-type': 'application/json' }),
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      ...(content === undefined ? {} : { body: JSON.stringify(content) }),
      ...{ signal: deadline.signal, headersTimeout: timeouts.requestMs, bodyTimeout: timeouts.idleMs },
    });
    hasAnswered = true;
    const body = await readBody(answer.body, ANSWER_BYTES_MAX, onReceived);
    if (answer.statusCode !== 200) {
      const parsed = parseJson(body);
      const said = parsed.ok ? parsed.value : undefined;
      throw errorOfAnswer(host, what, answer.statusCode, said, undefined, clock.now());
    }
    const read = parseJsonObject(body);
    if (!read.ok) throw new FederationError(host, 'malformed', `${what}: the answer is ${read.reason}`);
    return read.value;
  } catch (error) {
    signal.throwIfAborted();
    throw toFederationError(host, what, deadline.signal.aborted ? deadline.signal.reason : error, hasAnswered);
  } finally {
    deadline.dispose();
  }
}
