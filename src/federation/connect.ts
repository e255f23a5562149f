/**
 * The one way out: an undici agent whose every connection passes the address rules. Names are resolved here and the
 * vetted addresses are what the socket connects to; address literals, which never reach a lookup, are vetted apart.
 */
import { lookup as systemLookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { createSecureContext, rootCertificates } from 'node:tls';
import { Agent, buildConnector } from 'undici';
import { type AddressRules } from './addresses.ts';

/** Connections to one server at a time; more requests than this wait for one of them. */
const CONNECTIONS_PER_SERVER = 8;
/** Idle connections are kept this long: a resync asks the same resident again and again. */
const KEEP_ALIVE_MS = 30_000;
/** Answers carry a few headers; undici's own default. */
const HEADER_BYTES_MAX = 16_384;

/** All addresses of a host name; rejects with a `code` such as ENOTFOUND. */
export type Lookup = (hostname: string) => Promise<readonly { readonly address: string; readonly family: number }[]>;

/** What the operating system says, its hosts file included. */
export const lookupBySystem: Lookup = (hostname) => systemLookup(hostname, { all: true, order: 'verbatim' });

/** The address rules allow none of a host's addresses. */
export class AddressRefusedError extends Error {
  override readonly name = 'AddressRefusedError';
}

export interface AgentConfig {
  readonly addresses: AddressRules;
  readonly lookup: Lookup;
  /** PEM certificates trusted beside the well-known ones. */
  readonly customCa?: string | undefined;
  readonly connectTimeoutMs: number;
}

/** An agent for https only. Certificates are verified for the name in the Host header, or for the address literal. */
export function createAgent(config: AgentConfig): Agent {
  const connectTls = buildConnector({
    timeout: config.connectTimeoutMs,
    lookup: (hostname, _options, callback) => {
      vettedAddresses(config, hostname).then(
        (addresses) => callback(null, addresses),
        (error: unknown) => callback(error as NodeJS.ErrnoException, []),
      );
    },
    // Once: reading a hundred authorities takes some 18 ms, and a join makes a dozen connections.
    ...(config.customCa === undefined
      ? {}
      : { secureContext: createSecureContext({ ca: [...rootCertificates, config.customCa] }) }),
  });
  return new Agent({
    connections: CONNECTIONS_PER_SERVER,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: HEADER_BYTES_MAX,
    connect: (options, callback) => {
      const literal = options.hostname.replace(/^\[(.*)\]$/, '$1');
      if (options.protocol !== 'https:') {
        callback(new AddressRefusedError(`${options.protocol} is not https`), null);
      } else if (isIP(literal) !== 0 && !config.addresses.allows(literal)) {
        callback(new AddressRefusedError(`address ${literal} is not allowed`), null);
      } else {
        connectTls(options, callback);
      }
    },
  });
}

async function vettedAddresses(config: AgentConfig, hostname: string): Promise<{ address: string; family: number }[]> {
  const found = await config.lookup(hostname);
  const allowed = found.filter(({ address }) => config.addresses.allows(address));
  const [first] = found;
  if (first === undefined) throw Object.assign(new Error(`${hostname} has no address`), { code: 'ENOTFOUND' });
  if (allowed.length === 0) throw new AddressRefusedError(`${hostname} has the address ${first.address}, not allowed`);
  return allowed.map(({ address, family }) => ({ address, family }));
}
