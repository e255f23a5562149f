import { describe, expect, test } from 'vitest';
import { createAddressRules } from '../../src/federation/addresses.ts';

describe('addresses that federation may reach', () => {
  test.each(['8.8.8.8', '1.1.1.1', '2606:4700:4700::1111', '::ffff:8.8.8.8'])('public %s is allowed', (address) => {
    expect(createAddressRules().allows(address)).toBe(true);
  });

  test.each([
    ['loopback', '127.0.0.1'],
    ['loopback', '127.255.255.254'],
    ['loopback', '::1'],
    ['this host', '0.0.0.0'],
    ['this host', '::'],
    ['private', '10.1.2.3'],
    ['private', '172.16.0.1'],
    ['private', '192.168.1.1'],
    ['metadata service', '169.254.169.254'],
    ['link-local', 'fe80::1'],
    ['shared (CGNAT)', '100.64.0.1'],
    ['unique-local', 'fc00::1'],
    ['unique-local', 'fd12:3456::1'],
    ['site-local', 'fec0::1'],
    ['v4-mapped loopback', '::ffff:127.0.0.1'],
    ['v4-mapped private, in hex', '::ffff:a00:1'],
    ['v4-compatible loopback', '::127.0.0.1'],
    ['6to4 of loopback', '2002:7f00:1::1'],
    ['6to4 of a public address', '2002:808:808::1'],
    ['NAT64 of loopback', '64:ff9b::7f00:1'],
    ['NAT64 of a public address', '64:ff9b::808:808'],
    ['local NAT64', '64:ff9b:1::1'],
    ['teredo', '2001::1'],
    ['documentation', '192.0.2.1'],
    ['documentation', '2001:db8::1'],
    ['benchmarks', '198.18.0.1'],
    ['multicast', '224.0.0.1'],
    ['multicast', 'ff02::1'],
    ['broadcast', '255.255.255.255'],
    ['reserved', '240.0.0.1'],
    ['discard', '100::1'],
    ['outside of what IANA gave out', '4000::1'],
    ['a zone', 'fe80::1%eth0'],
    ['a short form', '127.1'],
    ['a number', '2130706433'],
    ['hex', '0x7f.0.0.1'],
    ['a name', 'example.org'],
    ['nothing', ''],
  ])('%s %s is not', (_what, address) => {
    expect(createAddressRules().allows(address)).toBe(false);
  });

  test('an allowed range is reachable, also through a mapped address, and nothing beside it', () => {
    const rules = createAddressRules({ allowedRanges: ['10.1.0.0/16'] });
    expect(['10.1.2.3', '::ffff:10.1.2.3', '10.2.0.1', '127.0.0.1'].map((a) => rules.allows(a))).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  test('a denied range is out of reach; an allowed one within it is not', () => {
    const rules = createAddressRules({ deniedRanges: ['8.8.0.0/16', '2606::/16'], allowedRanges: ['8.8.4.0/24'] });
    expect(['8.8.8.8', '8.8.4.4', '2606:4700::1', '1.1.1.1'].map((a) => rules.allows(a))).toEqual([
      false,
      true,
      false,
      true,
    ]);
  });

  test('an allowed translator is no way round the rules for what lies behind it', () => {
    const rules = createAddressRules({ allowedRanges: ['64:ff9b::/96', '2002::/16'] });
    expect(['64:ff9b::808:808', '2002:808:808::1'].map((a) => rules.allows(a))).toEqual([true, true]);
    expect(['64:ff9b::7f00:1', '64:ff9b::a9fe:a9fe', '2002:a00:1::1'].map((a) => rules.allows(a))).toEqual([
      false,
      false,
      false,
    ]);
  });

  test('a range that is none is refused by name', () => {
    expect(() => createAddressRules({ deniedRanges: ['10.0.0.0'] })).toThrow('"10.0.0.0" is not an address range');
  });
});
