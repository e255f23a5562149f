/**
 * The grammar of Matrix identifiers, and the branded types the rest of the code uses for them. A string is parsed once,
 * at the edge; inside, an `EventId` is an event id and is never validated again.
 *
 * Source: https://spec.matrix.org/v1.16/appendices/#identifier-grammar
 */

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

/** `$opaque` (room versions ≥ 3) or `$opaque:server` (1 and 2). */
export type EventId = Branded<'EventId'>;
/** `!opaque:server`, or `!hash` in room version 12. */
export type RoomId = Branded<'RoomId'>;
/** `#localpart:server`. */
export type RoomAlias = Branded<'RoomAlias'>;
/** `@localpart:server`. */
export type UserId = Branded<'UserId'>;
/** A host name or address literal with an optional port. */
export type ServerName = Branded<'ServerName'>;
/** `algorithm:version`, such as `ed25519:auto`. */
export type KeyId = Branded<'KeyId'>;

/** Every identifier is at most this long, sigil and domain included (spec, Common Identifier Format). */
export const IDENTIFIER_BYTES_MAX = 255;

/**
 * The grammar, and no more: whether such a name leads anywhere is found out when it is connected to. That names should have no more
 * than 230 characters is a recommendation to those who choose them.
 */
const SERVER_NAME = /^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.-]{1,255})(?::\d{1,5})?$/;
const KEY_ID = /^[a-z0-9]+:[a-zA-Z0-9_]{1,200}$/;
/** Room ids, aliases and local parts may hold any of these but NUL; no event id that was ever made does. */
const CONTROL = /[\u0000-\u001f\u007f]/;

function utf8BytesAtMost(value: string, bytesMax: number): boolean {
  // A UTF-16 unit takes one to three bytes, so most strings are decided without encoding them.
  if (value.length > bytesMax) return false;
  return value.length * 3 <= bytesMax || Buffer.byteLength(value, 'utf8') <= bytesMax;
}

/** Parses a server name; `undefined` when it breaks the grammar. Its port may be none that exists. */
export function parseServerName(value: unknown): ServerName | undefined {
  if (typeof value !== 'string' || !utf8BytesAtMost(value, IDENTIFIER_BYTES_MAX)) return undefined;
  return SERVER_NAME.test(value) ? (value as ServerName) : undefined;
}

/** `sigil`, any characters but `:` and NUL, `:`, and a server name. */
function hasSigilAndDomain(value: unknown, sigil: string): value is string {
  if (typeof value !== 'string' || !value.startsWith(sigil) || !utf8BytesAtMost(value, IDENTIFIER_BYTES_MAX)) {
    return false;
  }
  if (value.includes('\0')) return false;
  const colon = value.indexOf(':');
  return colon >= 1 && parseServerName(value.slice(colon + 1)) !== undefined;
}

/** Parses a user id. Historical local parts (any character but `:` and NUL) are taken, as the spec asks of receivers. */
export function parseUserId(value: unknown): UserId | undefined {
  return hasSigilAndDomain(value, '@') ? (value as UserId) : undefined;
}

/**
 * Parses a room id of any room version: with a domain, or (version 12) the bare reference hash of the create event. Before
 * version 12 it may hold control characters: https://spec.matrix.org/v1.16/appendices/#room-ids
 */
export function parseRoomId(value: unknown): RoomId | undefined {
  if (typeof value !== 'string' || !value.startsWith('!') || value.length < 2) return undefined;
  if (!value.includes(':')) return /^![A-Za-z0-9_-]{43}$/.test(value) ? (value as RoomId) : undefined;
  return hasSigilAndDomain(value, '!') ? (value as RoomId) : undefined;
}

/** Parses a room alias, which may hold control characters: https://spec.matrix.org/v1.16/appendices/#room-aliases */
export function parseRoomAlias(value: unknown): RoomAlias | undefined {
  return hasSigilAndDomain(value, '#') ? (value as RoomAlias) : undefined;
}

/** Parses an event id of any room version: anything from `$` to the length limit. */
export function parseEventId(value: unknown): EventId | undefined {
  if (typeof value !== 'string' || !value.startsWith('$') || value.length < 2) return undefined;
  return utf8BytesAtMost(value, IDENTIFIER_BYTES_MAX) && !CONTROL.test(value) ? (value as EventId) : undefined;
}

/** Parses a key id such as `ed25519:a_1`. */
export function parseKeyId(value: unknown): KeyId | undefined {
  return typeof value === 'string' && KEY_ID.test(value) ? (value as KeyId) : undefined;
}

/** The server a user, alias or (before version 12) room id belongs to; `undefined` for a version 12 room id. */
export function domainOf(id: UserId | RoomAlias): ServerName;
export function domainOf(id: UserId | RoomAlias | RoomId | EventId): ServerName | undefined;
export function domainOf(id: string): ServerName | undefined {
  const colon = id.indexOf(':');
  return colon < 0 ? undefined : (id.slice(colon + 1) as ServerName);
}
