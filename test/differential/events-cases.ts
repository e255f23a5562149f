/** Random events, well formed and not, for every room version. `"@@1e3@@"` stands for the number literal 1e3. */
import { encodeBase64 } from '../../src/matrix/signing/base64.ts';
import { contentHash } from '../../src/matrix/signing/hashes.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { signBytes, signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';
import { type KeyId } from '../../src/matrix/identifiers.ts';
import { parseJsonObject } from '../../src/matrix/json/strict-json.ts';
import { type Random } from './random.ts';

export interface EventRequest {
  readonly op: 'event';
  readonly room_version: string;
  readonly raw: string;
}

export interface SignRequest {
  readonly op: 'sign';
  readonly room_version: string;
  readonly raw: string;
  readonly server: string;
  readonly seed: string;
}

/** All in base64. */
export interface VerifyRequest {
  readonly op: 'verify';
  readonly message: string;
  readonly key: string;
  readonly signature: string;
}

export type EventsRequest = EventRequest | SignRequest | VerifyRequest;

/** Puts the number literals in place. */
export function rawText(raw: string): string {
  return raw.replace(/"@@([^"@]*)@@"/g, '$1');
}

const TYPES = [
  'm.room.member',
  'm.room.create',
  'm.room.join_rules',
  'm.room.power_levels',
  'm.room.aliases',
  'm.room.history_visibility',
  'm.room.redaction',
  'm.room.third_party_invite',
  'm.room.message',
  'm.room.name',
  'org.example.custom',
];

const CONTENT_KEYS = [
  'membership',
  'join_authorised_via_users_server',
  'third_party_invite',
  'creator',
  'room_version',
  'additional_creators',
  'm.federate',
  'join_rule',
  'allow',
  'users',
  'users_default',
  'events',
  'events_default',
  'state_default',
  'ban',
  'kick',
  'redact',
  'invite',
  'notifications',
  'aliases',
  'history_visibility',
  'redacts',
  'body',
  '__proto__',
  'constructor',
];

const TOP_LEVEL_EXTRAS = [
  'origin',
  'membership',
  'prev_state',
  'redacts',
  'age_ts',
  'outlier',
  'destinations',
  'zzz',
  '__proto__',
];
const FIELDS = [
  'type',
  'room_id',
  'sender',
  'state_key',
  'content',
  'depth',
  'origin_server_ts',
  'prev_events',
  'auth_events',
  'hashes',
  'signatures',
  'event_id',
  'unsigned',
];

const CHARACTERS = [
  'a',
  'b',
  'Z',
  '0',
  ' ',
  '"',
  '\\',
  '/',
  '\n',
  '\u0000',
  '\u001f',
  '\u007f',
  'é',
  '\u2028',
  '\ue000',
  '\uffff',
  '😀',
  '𐀀',
];
const ODD_NUMBERS = [
  '1.0',
  '1e3',
  '-0',
  '-0.0',
  '0.1',
  '1E-7',
  '1e16',
  '5e-324',
  '9007199254740992',
  '123456789012345678901',
  '1e22',
  '0.00001',
  '-1.5e-9',
];
const SURROGATES = ['\ud800', 'a\udfff'];

export function casesOfEvents(random: Random): readonly EventsRequest[] {
  const requests: EventsRequest[] = [];
  for (let i = 0; i < 24; i++) requests.push(eventRequest(random));
  for (let i = 0; i < 4; i++) requests.push(signRequest(random));
  for (let i = 0; i < 4; i++) requests.push(verifyRequest(random));
  return requests;
}

function eventRequest(random: Random): EventRequest {
  const version = random.pick(ROOM_VERSIONS);
  const event = randomEvent(random, version);
  if (random.chance(0.4)) breakField(random, event);
  if (random.chance(0.5)) setContentHash(event);
  return { op: 'event', room_version: version, raw: JSON.stringify(event) };
}

function setContentHash(event: Record<string, Json>): void {
  const parsed = parseJsonObject(rawText(JSON.stringify(event)));
  if (parsed.ok) event['hashes'] = { sha256: contentHash(parsed.value) };
}

function randomEvent(random: Random, version: string): Record<string, Json> {
  const given = version === '1' || version === '2';
  const reference = (): Json =>
    given
      ? [`$${random.integer(99)}:example.org`, { sha256: 'x' }]
      : `$${random.pick(['a', 'B', '_'])}${random.integer(1e9)}`;
  const references = (most: number): Json[] => Array.from({ length: random.integer(most + 1) }, reference);
  const sender = `@${random.pick(['alice', 'bob', 'Ünicode', 'a b'])}:${random.pick(['example.org', 'other.org:8448', '[::1]'])}`;
  const event: Record<string, Json> = {
    type: random.pick(TYPES),
    room_id: version === '12' ? `!${'A'.repeat(43)}` : '!room:example.org',
    sender,
    content: randomContent(random),
    depth: random.integer(1e6),
    origin_server_ts: 1_600_000_000_000 + random.integer(1e9),
    prev_events: references(20),
    auth_events: references(10),
    hashes: { sha256: random.pick(['A'.repeat(43), 'AAAA', '_-'.repeat(20)]) },
    signatures: random.chance(0.8) ? { 'example.org': { 'ed25519:1': 'A'.repeat(86) } } : {},
  };
  if (given) event['event_id'] = `$${random.integer(1e6)}:${random.pick(['example.org', 'third.org'])}`;
  if (random.chance(0.6)) event['state_key'] = random.pick(['', sender, randomText(random)]);
  if (random.chance(0.3)) event['unsigned'] = { age: random.integer(99), [randomText(random)]: randomJson(random, 2) };
  for (const key of TOP_LEVEL_EXTRAS) if (random.chance(0.1)) setKey(event, key, randomJson(random, 2));
  if (event['type'] === 'm.room.create' && event['state_key'] === '' && version === '12' && random.chance(0.9)) {
    delete event['room_id'];
  }
  return event;
}

function randomContent(random: Random): Record<string, Json> {
  const content: Record<string, Json> = {};
  for (const key of CONTENT_KEYS) if (random.chance(0.25)) setKey(content, key, randomJson(random, 2));
  if (random.chance(0.5)) content['membership'] = random.pick(['join', 'invite', 'leave', 'ban', 'knock']);
  if (random.chance(0.15)) content['join_authorised_via_users_server'] = '@mod:third.org';
  if (random.chance(0.2)) {
    content['third_party_invite'] = random.pick([{ signed: {}, display_name: 'x' }, {}, { a: 1 }]);
  }
  if (random.chance(0.02)) content['deep'] = nested(110 + random.integer(25));
  return content;
}

function nested(depth: number): Json {
  return depth === 0 ? 1 : [nested(depth - 1)];
}

function breakField(random: Random, event: Record<string, Json>): void {
  const field = random.pick(FIELDS);
  const kind = random.integer(4);
  if (kind === 0) {
    Reflect.deleteProperty(event, field);
  } else if (kind === 1) {
    event[field] = randomJson(random, 2);
  } else if (kind === 2) {
    event[random.pick(['type', 'state_key'])] = random.pick(['x', 'é', '😀']).repeat(60 + random.integer(200));
  } else {
    event['content'] = { body: 'x'.repeat(64_500 + random.integer(800)) };
  }
}

function randomText(random: Random): string {
  if (random.chance(0.002)) return random.pick(SURROGATES);
  return Array.from({ length: random.integer(6) }, () => random.pick(CHARACTERS)).join('');
}

function randomJson(random: Random, depth: number): Json {
  switch (random.integer(depth > 0 ? 9 : 6)) {
    case 0:
      return null;
    case 1:
      return random.chance(0.5);
    case 2:
      return random.integer(2000) - 1000;
    case 3:
      return random.chance(0.1) ? `@@${random.pick(ODD_NUMBERS)}@@` : random.pick([2 ** 53 - 1, -(2 ** 53) + 1, 0]);
    case 4:
    case 5:
      return randomText(random);
    case 6:
      return Array.from({ length: random.integer(4) }, () => randomJson(random, depth - 1));
    default: {
      const object: Record<string, Json> = {};
      for (let i = random.integer(4); i > 0; i--) setKey(object, randomText(random), randomJson(random, depth - 1));
      return object;
    }
  }
}

function setKey(object: Record<string, Json>, key: string, value: Json): void {
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

function randomBytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.integer(256)));
}

function signRequest(random: Random): SignRequest {
  const version = random.pick(ROOM_VERSIONS);
  const event: JsonObject = { ...randomEvent(random, version), signatures: {}, hashes: {} };
  return {
    op: 'sign',
    room_version: version,
    raw: JSON.stringify(event),
    server: 'example.org',
    seed: encodeBase64(randomBytes(random, 32)),
  };
}

/** Points of small order, and the order of the group added to S: libsodium refuses both. */
const SMALL_ORDER = [
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}ff`,
].map((hex) => Buffer.from(hex, 'hex'));
const GROUP_ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

function verifyRequest(random: Random): VerifyRequest {
  const signer = signingKeyFromSeed('ed25519:1' as KeyId, randomBytes(random, 32));
  const message = randomBytes(random, 1 + random.integer(60));
  let key = Buffer.from(signer.publicKey, 'base64');
  let signature = Buffer.from(signBytes(signer, message), 'base64');
  const flip = (bytes: Buffer): void => {
    const at = random.integer(bytes.length);
    bytes[at] = bytes[at]! ^ (1 << random.integer(8));
  };
  switch (random.integer(7)) {
    case 0:
      flip(key);
      break;
    case 1:
      flip(signature);
      break;
    case 2:
      signature = Buffer.concat([signature.subarray(0, 32), plusGroupOrder(signature.subarray(32))]);
      break;
    case 3:
      key = random.pick(SMALL_ORDER);
      signature = Buffer.concat([random.pick(SMALL_ORDER), Buffer.alloc(32)]);
      break;
    case 4:
      signature = Buffer.concat([random.pick(SMALL_ORDER), signature.subarray(32)]);
      break;
    case 5:
      signature = signature.subarray(0, 60 + random.integer(4));
      break;
    default:
  }
  return { op: 'verify', message: encodeBase64(message), key: encodeBase64(key), signature: encodeBase64(signature) };
}

function plusGroupOrder(s: Buffer): Buffer {
  const value = BigInt(`0x${Buffer.from(s).reverse().toString('hex')}`) + GROUP_ORDER;
  return Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse();
}
