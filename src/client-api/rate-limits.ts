/**
 * How often one address, or network, may log in or register, anybody may try the password of one account, and one user may send and join. Each process counts for
 * itself: behind several, as many times as much passes.
 */
import { isIPv6 } from 'node:net';
import { LRUCache } from 'lru-cache';
import { type Clock } from '../clock.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type ClientRequester } from './client-request.ts';

export interface RateLimit {
  readonly perMinute: number;
  /** At once, after a pause. */
  readonly burst: number;
}

/** `null`: no limit. */
export interface RateLimits {
  readonly loginByAddress: RateLimit | null;
  readonly loginByAccount: RateLimit | null;
  readonly registration: RateLimit | null;
  /** Of one user: events with what passes in rooms and presence, and joins with new rooms. */
  readonly sending: RateLimit | null;
  readonly joining: RateLimit | null;
}

/** The least recently seen is forgotten: whoever has that many addresses is not held by limits on addresses. */
const KEYS_MAX = 20_000;

/** Counts what is asked under one limit. */
export class RateLimiter {
  readonly #limit: RateLimit | null;
  readonly #clock: Clock;
  /** When the allowance of a key will be whole again, milliseconds since the Unix epoch. */
  readonly #wholeAt = new LRUCache<string, number>({ max: KEYS_MAX });

  constructor(limit: RateLimit | null, clock: Clock) {
    this.#limit = limit;
    this.#clock = clock;
  }

  /** Takes one from the allowance of a key. Throws the `MatrixError` that tells when there is one again. */
  take(key: string): void {
    if (this.#limit === null) return;
    const costMs = 60_000 / this.#limit.perMinute;
    const now = this.#clock.now();
    const wholeAt = Math.max(this.#wholeAt.get(key) ?? now, now) + costMs;
    const waitMs = Math.ceil(wholeAt - now - this.#limit.burst * costMs);
    if (waitMs > 0) throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'too many requests', { retry_after_ms: waitMs });
    this.#wholeAt.set(key, wholeAt);
  }
}

/** Takes one from what a user has; an application service may be free of that, and whom it acts as where it names nobody always is. */
export function takeFor(limiter: RateLimiter, { userId, service }: ClientRequester): void {
  if (service === undefined || (service.isRateLimited && userId !== service.sender)) limiter.take(userId);
}

/** Groups of an IPv6 address that name a network: whoever has one of its addresses has all 2⁶⁴. */
const NETWORK_GROUPS = 4;
const MAPPED = /^::ffff:(?=\d+\.)/i;

/** Whom an address is counted as: an IPv6 address as its network, and one that stands for an IPv4 address as that. */
export function sourceOf(address: string): string {
  if (!isIPv6(address) || MAPPED.test(address)) return address.replace(MAPPED, '');
  const [front = [], back = []] = address.split('::').map((part) => part.split(':').filter((group) => group !== ''));
  const between = Array.from({ length: Math.max(0, 8 - front.length - back.length) }, () => '0');
  const groups = [...front, ...between, ...back].slice(0, NETWORK_GROUPS);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::`;
}

/** The limiters of one listener. */
export interface RateLimiters {
  readonly loginByAddress: RateLimiter;
  readonly loginByAccount: RateLimiter;
  readonly registration: RateLimiter;
  readonly sending: RateLimiter;
  readonly joining: RateLimiter;
}

/** Makes them; nothing is counted yet. */
export function createRateLimiters(limits: RateLimits, clock: Clock): RateLimiters {
  return {
    loginByAddress: new RateLimiter(limits.loginByAddress, clock),
    loginByAccount: new RateLimiter(limits.loginByAccount, clock),
    registration: new RateLimiter(limits.registration, clock),
    sending: new RateLimiter(limits.sending, clock),
    joining: new RateLimiter(limits.joining, clock),
  };
}
