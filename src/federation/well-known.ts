/**
 * Step 3 of server discovery: fetching `https://<hostname>/.well-known/matrix/server`, from anybody, so everything about
 * it is bounded: redirects (https only), time, size, and how long the answer is believed.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#getwell-knownmatrixserver
 */
import { type Dispatcher } from 'undici';
import { type ServerName, parseServerName } from '../matrix/identifiers.ts';
import { createDeadline } from './deadline.ts';
import { discardBody, readBody } from './read-body.ts';

/** Redirects followed; the fetch API allows 20, nobody needs more than a few. */
const REDIRECTS_MAX = 5;
/** All redirects and bodies together, milliseconds. */
const WELL_KNOWN_TIMEOUT_MS = 15_000;
/** The answer is one short object. */
const WELL_KNOWN_BYTES_MAX = 51_200;
/** The spec's default and longest lifetimes; the shortest keeps a server from making us ask at every request. */
const LIFETIME_MS = 24 * 3_600_000;
const LIFETIME_MS_MAX = 48 * 3_600_000;
const LIFETIME_MS_MIN = 300_000;
/** A clear "not here" is believed for an hour, the spec's limit for errors. */
const ABSENT_LIFETIME_MS = 3_600_000;

export type WellKnownAnswer =
  | { readonly outcome: 'delegated'; readonly to: ServerName; readonly lifetimeMs: number }
  /** The server says clearly that there is none. */
  | { readonly outcome: 'absent'; readonly lifetimeMs: number }
  /** No answer, or one that makes no sense. */
  | { readonly outcome: 'failed' };

/** Never throws: the spec goes on to the next step whatever happened. `now`: milliseconds, to read an Expires header. */
export async function fetchWellKnown(
  agent: Dispatcher,
  hostname: string,
  userAgent: string,
  now: number,
): Promise<WellKnownAnswer> {
  const deadline = createDeadline(undefined, WELL_KNOWN_TIMEOUT_MS);
  try {
    let url = new URL(`https://${hostname}/.well-known/matrix/server`);
    for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
      const answer = await agent.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: 'GET',
        headers: { 'user-agent': userAgent, 'accept-encoding': 'identity' },
        signal: deadline.signal,
      });
      const location = answer.headers['location'];
      if (answer.statusCode >= 300 && answer.statusCode < 400 && typeof location === 'string') {
        discardBody(answer.body);
        url = new URL(location, url);
        if (url.protocol !== 'https:' || url.username !== '' || url.password !== '') return { outcome: 'failed' };
        continue;
      }
      if (answer.statusCode === 404 || answer.statusCode === 410) {
        discardBody(answer.body);
        return { outcome: 'absent', lifetimeMs: ABSENT_LIFETIME_MS };
      }
      if (answer.statusCode !== 200) {
        discardBody(answer.body);
        return { outcome: 'failed' };
      }
      const body = await readBody(answer.body, WELL_KNOWN_BYTES_MAX);
      const parsed: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
      const named =
        typeof parsed === 'object' && parsed !== null ? (parsed as { 'm.server'?: unknown })['m.server'] : undefined;
      const to = parseDelegated(named);
      if (to === undefined) return { outcome: 'failed' };
      return { outcome: 'delegated', to, lifetimeMs: lifetimeOf(answer.headers, now) };
    }
    return { outcome: 'failed' };
  } catch {
    return { outcome: 'failed' };
  } finally {
    deadline.dispose();
  }
}

/** How long an answer is believed: Cache-Control before Expires, clamped; a day where neither says anything. */
export function lifetimeOf(headers: Record<string, string | string[] | undefined>, now: number): number {
  const cacheControl = [headers['cache-control'] ?? ''].flat().join(',');
  const maxAge = /(?:^|[\s,])max-age="?(\d{1,12})/i.exec(cacheControl)?.[1];
  const expires = headers['expires'];
  let lifetimeMs = LIFETIME_MS;
  if (/(?:^|[\s,])no-(?:store|cache)/i.test(cacheControl)) lifetimeMs = 0;
  else if (maxAge !== undefined) lifetimeMs = Number(maxAge) * 1000;
  else if (typeof expires === 'string') lifetimeMs = (Date.parse(expires) || 0) - now;
  return Math.min(Math.max(lifetimeMs, LIFETIME_MS_MIN), LIFETIME_MS_MAX);
}

/** The name that is delegated to, where it has no port or one that exists: a mistyped one is no delegation. */
function parseDelegated(named: unknown): ServerName | undefined {
  const name = parseServerName(named);
  const port = /:(\d+)$/.exec(name ?? '')?.[1];
  return port === undefined || (Number(port) > 0 && Number(port) < 65_536) ? name : undefined;
}
