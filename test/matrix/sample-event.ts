/** Well-formed events to start tests from, in the format of each room version. */
import { type KeyId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { type RoomVersionRules, roomVersionRules } from '../../src/matrix/room-versions.ts';
import { type SigningKey, signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';

export function rulesOf(version: string): RoomVersionRules {
  const rules = roomVersionRules(version);
  if (rules === undefined) throw new Error(`no room version ${version}`);
  return rules;
}

const HASH = 'A'.repeat(43);

/** A message event of `@alice:example.org` that passes the format check of the version. */
export function sampleEvent(version: string, changes: Record<string, Json> = {}): Record<string, Json> {
  const given = rulesOf(version).eventIdFormat === 'given';
  const reference = (id: string): Json => (given ? [`$${id}:example.org`, { sha256: HASH }] : `$${id.repeat(43)}`);
  return {
    type: 'm.room.message',
    room_id: version === '12' ? `!${HASH}` : '!room:example.org',
    sender: '@alice:example.org',
    content: { body: 'hello' },
    depth: 7,
    prev_events: [reference('p')],
    auth_events: [reference('q'), reference('r')],
    origin_server_ts: 1_700_000_000_000,
    hashes: { sha256: HASH },
    signatures: { 'example.org': { 'ed25519:a': 'A'.repeat(86) } },
    ...(given ? { event_id: '$event:example.org' } : {}),
    ...changes,
  };
}

export function without(event: JsonObject, ...keys: string[]): JsonObject {
  return Object.fromEntries(Object.entries(event).filter(([key]) => !keys.includes(key)));
}

const keys = new Map<string, SigningKey>();

/** A key made of the name alone, the same in every run. */
export function keyOf(serverName: string, version = 'a'): SigningKey {
  const name = `${version} ${serverName}`;
  const known = keys.get(name);
  if (known !== undefined) return known;
  const seed = new Uint8Array(32);
  Buffer.from(name).copy(seed);
  const key = signingKeyFromSeed(`ed25519:${version}` as KeyId, seed);
  keys.set(name, key);
  return key;
}

export const EXAMPLE = 'example.org' as ServerName;
export const OTHER = 'other.example.org' as ServerName;
