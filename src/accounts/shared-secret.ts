/**
 * Registration by a secret that this server shares with tools, as Synapse offers it: a nonce is fetched, and signed with what is to
 * be registered. A nonce carries its end and our own signature, so that every process knows those of the others; one that is used
 * again registers nothing, because the name is taken.
 *
 * Source: https://element-hq.github.io/synapse/latest/admin_api/register_api.html
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { type Clock } from '../clock.ts';
import { type SecretRegistration } from './contract.ts';

const NONCE_MS = 60_000;
const NONCE_BYTES = 16;

/** Gives nonces, and says what to think of what comes with one. */
export function createSecretRegistration(secret: string, clock: Clock): SecretRegistration {
  const sign = (text: string): string => createHmac('sha256', secret).update(`nonce ${text}`).digest('base64url');
  const isFresh = (nonce: string): boolean => {
    const [endsAt = '', random = '', signature = ''] = nonce.split('.');
    return isEqual(signature, sign(`${endsAt}.${random}`)) && Number(endsAt) > clock.now();
  };
  return {
    nonce: () => {
      const text = `${clock.now() + NONCE_MS}.${randomBytes(NONCE_BYTES).toString('base64url')}`;
      return `${text}.${sign(text)}`;
    },
    check: ({ nonce, username, password, admin, userType, mac }) => {
      if (!isFresh(nonce)) return 'stale';
      const parts = [
        nonce,
        username,
        password,
        admin ? 'admin' : 'notadmin',
        ...(userType === undefined ? [] : [userType]),
      ];
      const expected = createHmac('sha1', secret).update(parts.join('\0')).digest('hex');
      return isEqual(mac.toLowerCase(), expected) ? 'right' : 'wrong';
    },
  };
}

/** In constant time for texts of one length. */
function isEqual(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}
