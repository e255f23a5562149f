/**
 * Lets the threads of a pool check the members of a made-up room, so that their code is loaded and compiled before somebody
 * waits for it: the first thousand events of a cold thread take three times as long as later ones.
 */
import { type KeyId, type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { roomVersionRules } from '../matrix/room-versions.ts';
import { signEvent } from '../matrix/signing/signatures.ts';
import { signingKeyFromSeed } from '../matrix/signing/signing-key.ts';
import { invariant } from '../invariant.ts';
import { type CheckOutcome } from './contract.ts';
import { type VerificationPool } from './pool.ts';

const ROOM_VERSION = '11';
const ROOM = '!warm-up:rejoinder.invalid' as RoomId;
const SERVER = 'rejoinder.invalid' as ServerName;
const EVENTS = 64;
/** Batches for each thread; together some thousand events, a few tenths of a second. */
const BATCHES_A_THREAD = 20;

/** Resolves when the threads are warm, with what became of the last batch. Rejects with the signal's reason on abort. */
export async function warmUp(
  pool: VerificationPool,
  threads: number,
  signal: AbortSignal,
): Promise<readonly CheckOutcome[]> {
  const rules = roomVersionRules(ROOM_VERSION);
  invariant(rules !== undefined, 'the room version of the warm-up is known');
  const key = signingKeyFromSeed('ed25519:a' as KeyId, new Uint8Array(32).fill(1));
  const events = Array.from({ length: EVENTS }, (_, i) => {
    const event = signEvent(memberEvent(i), rules, SERVER, key);
    return Buffer.from(JSON.stringify(i % 2 === 0 ? event : { ...event, unsigned: { age: i } }));
  });
  const validity = { validUntilTs: 1, renewableUntilTs: 1 };
  const verifyKey = { serverName: SERVER, keyId: key.keyId, publicKey: key.publicKey, ...validity };
  const checks = Array.from({ length: threads * BATCHES_A_THREAD }, () =>
    pool.check({
      roomVersion: ROOM_VERSION,
      roomId: ROOM,
      events,
      resolveKeys: () => Promise.resolve([verifyKey]),
      signal,
    }),
  );
  return (await Promise.all(checks)).at(-1) ?? [];
}

function memberEvent(i: number): JsonObject {
  const userId = `@user${i}:${SERVER}`;
  const reference = (name: string): string => `$${name.repeat(43)}`;
  return {
    type: 'm.room.member',
    room_id: ROOM,
    sender: userId,
    state_key: userId,
    content: { membership: 'join', displayname: `Zoë ${i}`, avatar_url: `mxc://${SERVER}/avatar${i}` },
    depth: i + 1,
    prev_events: [reference('p')],
    auth_events: [reference('a'), reference('b'), reference('c')],
    origin_server_ts: 1,
  };
}
