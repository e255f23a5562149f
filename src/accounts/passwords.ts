/**
 * Passwords at rest: scrypt with 32 MiB and three passes over them, which OWASP names as one of the settings to choose from,
 * written as `$scrypt$ln=15,r=8,p=3$salt$hash`. It runs on threads of libuv, a few at a time, so that no crowd of logins takes
 * memory or keeps files and names from being read.
 *
 * Source: https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#scrypt
 */
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import pLimit from 'p-limit';
import { invariant } from '../invariant.ts';
import { AccountError } from './error.ts';

interface Cost {
  readonly ln: number;
  readonly r: number;
  readonly p: number;
}

const COST: Cost = { ln: 15, r: 8, p: 3 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** Hashes at a time, of four threads that libuv has by default. */
const AT_ONCE_MAX = 2;
/** Hashes that wait: each takes some 0.2 s of a processor. Whoever comes then is told to come back. */
const WAITING_MAX = 64;

const LENGTH_MIN = 6;
const BYTES_MAX = 512;

export interface Passwords {
  /** Throws an `AccountError` for a password that is too short or too long. */
  hash(password: string): Promise<string>;
  /** Takes as long for `null`, a user who is not there. */
  matches(password: string, hash: string | null): Promise<boolean>;
}

/** `cost` is for tests, whose passwords protect nothing. */
export function createPasswords(cost = COST): Passwords {
  const limit = pLimit(AT_ONCE_MAX);
  const inTurn = <Result>(work: () => Promise<Result>): Promise<Result> => {
    if (limit.pendingCount >= WAITING_MAX) throw new AccountError('too-many', 'too many logins at once; try again');
    return limit(work);
  };
  const hash = async (password: string): Promise<string> => {
    const salt = randomBytes(SALT_BYTES);
    return format(cost, salt, await inTurn(() => derive(password, salt, cost)));
  };
  const nobodys = format(cost, randomBytes(SALT_BYTES), randomBytes(HASH_BYTES));
  return {
    hash: async (password) => {
      if (password.length < LENGTH_MIN) {
        throw new AccountError('weak-password', `a password has at least ${LENGTH_MIN} characters`);
      }
      if (Buffer.byteLength(password) > BYTES_MAX) {
        throw new AccountError('weak-password', `a password has at most ${BYTES_MAX} bytes`);
      }
      return hash(password);
    },
    matches: async (password, stored) => {
      const { cost: made, salt, key } = parse(stored ?? nobodys);
      // Nobody has such a password, and scrypt would read all of it.
      const candidate = Buffer.byteLength(password) > BYTES_MAX ? '' : password;
      return timingSafeEqual(await inTurn(() => derive(candidate, salt, made)), key) && stored !== null;
    },
  };
}

function derive(password: string, salt: Buffer, { ln, r, p }: Cost): Promise<Buffer> {
  // 128 · r · (N + p) bytes, and some for itself.
  const options = { N: 2 ** ln, r, p, maxmem: 256 * r * (2 ** ln + p) };
  return new Promise((resolve, reject) => {
    scrypt(password, salt, HASH_BYTES, options, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
}

function format({ ln, r, p }: Cost, salt: Buffer, key: Buffer): string {
  return `$scrypt$ln=${ln},r=${r},p=${p}$${salt.toString('base64')}$${key.toString('base64')}`;
}

function parse(stored: string): { cost: Cost; salt: Buffer; key: Buffer } {
  const match = /^\$scrypt\$ln=(\d+),r=(\d+),p=(\d+)\$([^$]+)\$([^$]+)$/.exec(stored);
  invariant(match, 'a stored password is written as this file writes it');
  const [, ln, r, p, salt = '', key = ''] = match;
  return {
    cost: { ln: Number(ln), r: Number(r), p: Number(p) },
    salt: Buffer.from(salt, 'base64'),
    key: Buffer.from(key, 'base64'),
  };
}
