/**
 * Servers whose place an operator has written down, because what DNS says is of no use from here: split horizons, routers
 * that do not lead back to an address of their own network, simulated federations. A name with an entry is neither looked
 * up nor asked for a delegation. It stays the name in the Host header and in the certificate, and the address rules hold
 * for its address as for any other.
 */
import { isIP } from 'node:net';
import { parseServerName } from '../matrix/identifiers.ts';
import { type Lookup } from './connect.ts';

export interface StaticAddress {
  /** An address literal, without brackets. */
  readonly address: string;
  /** Used for names that state no port of their own. */
  readonly port: number;
}

export interface StaticAddresses {
  /** The entry of a host name, or else that of the longest `*.suffix` it ends with. */
  find(hostname: string): StaticAddress | undefined;
}

/** Reads `192.0.2.1:8448` or `[2001:db8::1]:8448`; `undefined` for anything else. */
export function parseStaticAddress(text: string): StaticAddress | undefined {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const [, v6, v4] = match;
  const port = Number(match[3]);
  if (port === 0 || port > 65_535) return undefined;
  if (v6 !== undefined) return isIP(v6) === 6 ? { address: v6, port } : undefined;
  return v4 !== undefined && isIP(v4) === 4 ? { address: v4, port } : undefined;
}

/** Whether an entry can be made for it: a host name, or `*.` and the end of host names. */
export function isStaticName(text: string): boolean {
  const hostname = text.replace(/^\*\./, '');
  return !/[:[]/.test(hostname) && isIP(hostname) === 0 && parseServerName(hostname) !== undefined;
}

/** `entries`: by host name or `*.suffix`. Host names are compared as DNS does, without regard to case. */
export function createStaticAddresses(entries: ReadonlyMap<string, StaticAddress>): StaticAddresses {
  const byName = new Map([...entries].map(([name, place]) => [name.toLowerCase(), place]));
  return {
    find(hostname) {
      // Discovery asks at every request, and mostly there are none.
      if (byName.size === 0) return undefined;
      const name = hostname.toLowerCase();
      let found = byName.get(name);
      for (let dot = name.indexOf('.'); found === undefined && dot >= 0; dot = name.indexOf('.', dot + 1)) {
        found = byName.get(`*${name.slice(dot)}`);
      }
      return found;
    },
  };
}

/** Answers for the names that have an entry, and asks `lookup` for all others. */
export function lookupWithStatic(addresses: StaticAddresses, lookup: Lookup): Lookup {
  return (hostname) => {
    const place = addresses.find(hostname);
    if (place === undefined) return lookup(hostname);
    return Promise.resolve([{ address: place.address, family: isIP(place.address) }]);
  };
}
