/** A thread of `limits.ts`: readies its share of the events, then does one step over all of them whenever it is told. */
import { type KeyObject, createPublicKey, hash, verify } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '../../src/invariant.ts';
import { decodeBase64 } from '../../src/matrix/signing/base64.ts';
import { canonicalJsonWithout } from '../../src/matrix/json/canonical-json.ts';
import { preparePdu } from '../../src/matrix/event-format.ts';
import { libsodiumVerifies } from '../../src/matrix/signing/ed25519.ts';
import { checkContentHash, eventIdOf, signedText } from '../../src/matrix/signing/hashes.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { roomVersionRules } from '../../src/matrix/room-versions.ts';
import { requiredSigners, signaturesOf } from '../../src/matrix/signing/signatures.ts';
import { parseJsonObject } from '../../src/matrix/json/strict-json.ts';
import { type LimitStep, type LimitsShare } from './limits.ts';

const { bytes, offsets, roomVersion, keys } = workerData as LimitsShare;
const rules = roomVersionRules(roomVersion);
invariant(rules !== undefined, 'a room that was joined is of a known version');
invariant(parentPort !== null, 'this file runs as a thread');
const port = parentPort;

const raw = Array.from({ length: offsets.length - 1 }, (_, i) =>
  Buffer.from(bytes, offsets[i], offsets[i + 1]! - offsets[i]!),
);
const parsed = raw.map((event) => JSON.parse(event.toString()) as JsonObject);

/** The SubjectPublicKeyInfo of an Ed25519 key is these bytes and the key's 32. */
const KEY_HEAD = Buffer.from('302a300506032b6570032100', 'hex');
const publicKeys = new Map<string, { readonly bytes: Buffer; readonly object: KeyObject }>();
for (const [name, publicKey] of keys) {
  const bytes = decodeBase64(publicKey)!;
  const key = Buffer.concat([KEY_HEAD, bytes]);
  publicKeys.set(name, { bytes, object: createPublicKey({ key, format: 'der', type: 'spki' }) });
}

/** Every signature that an event must have and whose key the run found. */
const toVerify = parsed.flatMap((event) => {
  const read = preparePdu(event, rules, { capReferences: false });
  const required = read.ok ? requiredSigners(read.pdu, rules) : read;
  invariant(required.ok, 'an event that was stored has its signers');
  const message = Buffer.from(signedText(event, rules));
  return required.servers.flatMap((server) =>
    signaturesOf(event, server).flatMap(({ keyId, signature }) => {
      const key = publicKeys.get(`${server} ${keyId}`);
      return key === undefined ? [] : [{ message, key, signature: decodeBase64(signature)! }];
    }),
  );
});

const OUTSIDE_CONTENT_HASH = new Set(['unsigned', 'signatures', 'hashes']);
const hashed = parsed.map((event) => [
  Buffer.from(canonicalJsonWithout(event, OUTSIDE_CONTENT_HASH)),
  Buffer.from(signedText(event, rules)),
]);

/** Gives the number of things done. */
const STEPS: Readonly<Record<LimitStep, () => number>> = {
  'JSON.parse': () => raw.map((event) => JSON.parse(event.toString()) as unknown).length,
  'strict parse': () => {
    for (const event of raw) invariant(parseJsonObject(event).ok, 'a stored event is strict JSON');
    return raw.length;
  },
  'SHA-256 of ready texts': () => hashed.flatMap((texts) => texts.map((text) => hash('sha256', text, 'base64'))).length,
  'canonical JSON and SHA-256': () => {
    for (const event of parsed) {
      invariant(checkContentHash(event) === 'match', 'a stored event has its hash');
      eventIdOf(event, rules);
    }
    return 2 * parsed.length;
  },
  'verify, OpenSSL': () => {
    for (const { message, key, signature } of toVerify) {
      invariant(verify(null, message, key.object, signature), 'a stored event is signed');
    }
    return toVerify.length;
  },
  'verify, libsodium': () => {
    if (libsodiumVerifies === undefined) return 0;
    for (const { message, key, signature } of toVerify) {
      invariant(libsodiumVerifies(signature, message, key.bytes), 'a stored event is signed');
    }
    return toVerify.length;
  },
};

port.on('message', (step: LimitStep) => port.postMessage(STEPS[step]()));
port.postMessage(0);
