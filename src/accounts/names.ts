/** Names of users and devices as this server gives them out. */
import { IDENTIFIER_BYTES_MAX, type ServerName, type UserId, domainOf, parseUserId } from '../matrix/identifiers.ts';
import { AccountError } from './error.ts';

/** Source: https://spec.matrix.org/v1.16/appendices/#user-identifiers */
const LOCALPART = /^[a-z0-9._=/+-]+$/;
/** No client makes one; a NUL cannot be stored, and a person could not tell such devices apart. */
const CONTROL = /[\u0000-\u001f\u007f]/;

/** The id for a new user, by local part or whole. Throws an `AccountError` for a name that cannot be given. */
export function newUserId(name: string, serverName: ServerName): UserId {
  const localpart = name.startsWith('@') ? name.slice(1, -serverName.length - 1) : name;
  const userId = parseUserId(`@${localpart}:${serverName}`);
  if (userId === undefined || !LOCALPART.test(localpart) || (name.startsWith('@') && name !== userId)) {
    throw new AccountError('invalid-username', `a name is made of a-z, 0-9 and . _ = - / +, and is of ${serverName}`);
  }
  return userId;
}

/** Who logs in under a name, local part or whole; `undefined`: nobody of ours can. */
export function knownUserId(name: string, serverName: ServerName): UserId | undefined {
  const userId = parseUserId(name.startsWith('@') ? name : `@${name}:${serverName}`);
  return userId !== undefined && domainOf(userId) === serverName ? userId : undefined;
}

/** A device id that a client chose. Throws an `AccountError` for one that cannot be kept. */
export function requireDeviceId(deviceId: string): string {
  if (deviceId !== '' && !CONTROL.test(deviceId) && Buffer.byteLength(deviceId) <= IDENTIFIER_BYTES_MAX) {
    return deviceId;
  }
  throw new AccountError('invalid', 'a device id has 1 to 255 bytes and no control characters');
}
