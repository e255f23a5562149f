/** The events of a big room, made for benches: correctly hashed, signed by their senders' own servers, the same each run. */
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { type EventId, type KeyId, type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type RoomVersionRules } from '../../src/matrix/room-versions.ts';
import { signEvent } from '../../src/matrix/signing/signatures.ts';
import { type SigningKey, signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';
import { type KeyResolver } from '../../src/verification/contract.ts';

export const ROOM_ID = '!bench:s0.example.org' as RoomId;

export interface MemberEvents {
  readonly rules: RoomVersionRules;
  /** What the members cite: create, the creator's join, power levels, join rules. */
  readonly opening: readonly JsonObject[];
  /** Joins, one a user, each signed by one of `servers` servers. */
  readonly members: readonly JsonObject[];
  readonly keys: ReadonlyMap<ServerName, SigningKey>;
  readonly resolveKeys: KeyResolver;
}

/** Makes `count` joins from `servers` servers, about 900 bytes each as in a public room. */
export function memberEvents(rules: RoomVersionRules, count: number, servers: number): MemberEvents {
  const keys = new Map<ServerName, SigningKey>();
  for (let i = 0; i < servers; i++) {
    const seed = new Uint8Array(32);
    new DataView(seed.buffer).setUint32(0, i + 1);
    keys.set(`s${i}.example.org` as ServerName, signingKeyFromSeed('ed25519:a_bench' as KeyId, seed));
  }
  const names = [...keys.keys()];
  let depth = 0;
  const signed = (
    server: ServerName,
    type: string,
    user: string,
    key: string,
    content: JsonObject,
    cited: EventId[],
  ) => {
    const event: JsonObject = {
      type,
      room_id: ROOM_ID,
      sender: user,
      state_key: key,
      content,
      depth: ++depth,
      prev_events: depth === 1 ? [] : [`$${'p'.repeat(43)}`],
      auth_events: cited,
      origin_server_ts: 1_700_000_000_000 + depth,
    };
    return signEvent(event, rules, server, keys.get(server)!);
  };

  const host = names[0]!;
  const creator = `@creator:${host}`;
  const create = signed(host, 'm.room.create', creator, '', { room_version: rules.version }, []);
  const createId = eventIdOf(create, rules);
  const join = signed(host, 'm.room.member', creator, creator, { membership: 'join' }, [createId]);
  const joinId = eventIdOf(join, rules);
  const power = signed(host, 'm.room.power_levels', creator, '', { users: { [creator]: 100 } }, [createId, joinId]);
  const powerId = eventIdOf(power, rules);
  const open = signed(host, 'm.room.join_rules', creator, '', { join_rule: 'public' }, [createId, powerId, joinId]);
  const cited = [createId, powerId, eventIdOf(open, rules)];
  const members = Array.from({ length: count }, (_, i) => {
    const server = names[i % names.length]!;
    const user = `@user${i}:${server}`;
    const avatar_url = `mxc://${server}/${String(i).padStart(24, 'AbCdEfGhIjKlMnOpQrStUvWx')}`;
    return signed(
      server,
      'm.room.member',
      user,
      user,
      { membership: 'join', displayname: `User ${i} 🙂`, avatar_url },
      cited,
    );
  });
  const resolveKeys: KeyResolver = (requests) =>
    Promise.resolve(
      requests.flatMap(({ serverName, keyId }) => {
        const publicKey = keys.get(serverName)?.publicKey;
        const always = { validUntilTs: Number.MAX_SAFE_INTEGER, renewableUntilTs: Number.MAX_SAFE_INTEGER };
        return publicKey === undefined ? [] : [{ serverName, keyId, publicKey, ...always }];
      }),
    );
  return { rules, opening: [create, join, power, open], members, keys, resolveKeys };
}
