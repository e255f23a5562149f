/** Rooms of signed events on several servers, and a key resolver that has their keys. */
import { type KeyRequest, type KeyResolver, type VerifyKey } from '../../src/verification/contract.ts';
import { type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { signEvent } from '../../src/matrix/signing/signatures.ts';
import { keyOf, rulesOf, sampleEvent } from '../matrix/sample-event.ts';

export const ROOM = '!room:example.org' as RoomId;
export const FOREVER = Number.MAX_SAFE_INTEGER;

export function serverName(index: number): ServerName {
  return `s${index}.example.org` as ServerName;
}

/** A join of `@user<i>` of its own server, signed by it. */
export function signedMember(version: string, i: number, changes: Record<string, Json> = {}): JsonObject {
  const server = serverName(i % 5);
  const userId = `@user${i}:${server}`;
  const event = sampleEvent(version, {
    type: 'm.room.member',
    state_key: userId,
    sender: userId,
    content: { membership: 'join', displayname: `User ${i}` },
    depth: i + 1,
    signatures: {},
    ...(rulesOf(version).eventIdFormat === 'given' ? { event_id: `$member${i}:${server}` } : {}),
    ...changes,
  });
  return signEvent(event, rulesOf(version), server, keyOf(server));
}

export function bytesOf(event: JsonObject): Uint8Array {
  return Buffer.from(JSON.stringify(event));
}

export function keyOfServer(server: ServerName, validUntilTs = FOREVER, renewableUntilTs = validUntilTs): VerifyKey {
  const { keyId, publicKey } = keyOf(server);
  return { serverName: server, keyId, publicKey, validUntilTs, renewableUntilTs };
}

/** Answers with the keys of every server that signedMember uses, and remembers what it was asked. */
export function resolverOf(asked: KeyRequest[] = []): KeyResolver {
  return (requests) => {
    asked.push(...requests);
    return Promise.resolve(requests.map(({ serverName: name }) => keyOfServer(name)));
  };
}
