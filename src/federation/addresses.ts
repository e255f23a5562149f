/**
 * Which addresses federation may connect to. Server names come from strangers, so by default only public unicast
 * addresses are reachable: no loopback, private, link-local (cloud metadata), shared (CGNAT), unique-local, multicast,
 * documentation or translated address. Decided on the address that is about to be connected to, not on the name, so
 * that a name which resolves differently the second time (rebinding) gains nothing.
 */
import ipaddr from 'ipaddr.js';

export interface AddressRules {
  /** `address`: an IPv4 or IPv6 literal without brackets. Anything else is not allowed. */
  allows(address: string): boolean;
}

export interface AddressRulesConfig {
  /** CIDR ranges reachable although they are not public unicast; they win over `deniedRanges`. */
  readonly allowedRanges?: readonly string[];
  /** CIDR ranges refused although they are public. */
  readonly deniedRanges?: readonly string[];
}

type Address = ipaddr.IPv4 | ipaddr.IPv6;
type Range = [Address, number];

/** IANA has given out global unicast IPv6 addresses of this range only. */
const GLOBAL_UNICAST_V6 = ipaddr.IPv6.parseCIDR('2000::/3');
/** RFC 6052: the last 32 bits are the IPv4 address that a translator connects to. */
const NAT64 = ipaddr.IPv6.parseCIDR('64:ff9b::/96');
/** RFC 3056: bits 16 to 47 are the IPv4 address of the relay. */
const SIX_TO_FOUR = ipaddr.IPv6.parseCIDR('2002::/16');

/** Throws a `RangeError` for text that is no address range. */
export function createAddressRules(config: AddressRulesConfig = {}): AddressRules {
  const allowed = (config.allowedRanges ?? []).map(parseRange);
  const denied = (config.deniedRanges ?? []).map(parseRange);

  const allows = (address: Address): boolean => {
    const exempt = isInAny(address, allowed);
    if (!exempt && (!isPublicUnicast(address) || isInAny(address, denied))) return false;
    // An exempted translator must not be a way round the rules for the IPv4 address behind it.
    const embedded = embeddedIPv4(address);
    return embedded === undefined || allows(embedded);
  };

  return {
    allows(text) {
      // The parser also reads `127.1` and `0x7f000001`; a literal that is about to be connected to is never so written.
      if (text.includes('%') || !(ipaddr.IPv4.isValidFourPartDecimal(text) || ipaddr.IPv6.isValid(text))) return false;
      return allows(ipaddr.process(text));
    },
  };
}

function parseRange(text: string): Range {
  if (!ipaddr.isValidCIDR(text)) {
    throw new RangeError(`${JSON.stringify(text)} is not an address range such as 10.0.0.0/8`);
  }
  return ipaddr.parseCIDR(text);
}

function isInAny(address: Address, ranges: readonly Range[]): boolean {
  return ranges.some(([base, bits]) => base.kind() === address.kind() && address.match([base, bits] as never));
}

function isPublicUnicast(address: Address): boolean {
  if (address.range() !== 'unicast') return false;
  return address instanceof ipaddr.IPv4 || address.match(GLOBAL_UNICAST_V6);
}

function embeddedIPv4(address: Address): ipaddr.IPv4 | undefined {
  if (address instanceof ipaddr.IPv4) return undefined;
  const bytes = address.toByteArray();
  if (address.match(NAT64)) return new ipaddr.IPv4(bytes.slice(12, 16));
  if (address.match(SIX_TO_FOUR)) return new ipaddr.IPv4(bytes.slice(2, 6));
  return undefined;
}
