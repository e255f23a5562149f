import { expect, test } from 'vitest';
import { RateLimiter, sourceOf } from '../../src/client-api/rate-limits.ts';
import { TestClock } from './client.ts';

test('a burst passes, then one each time the allowance has grown by one, and the refusal says when', () => {
  const clock = new TestClock();
  const limiter = new RateLimiter({ perMinute: 6, burst: 3 }, clock);
  for (let i = 0; i < 3; i += 1) limiter.take('192.0.2.1');
  const refusal = expect.objectContaining({
    status: 429,
    errcode: 'M_LIMIT_EXCEEDED',
    details: { retry_after_ms: 10_000 },
  });
  expect(() => limiter.take('192.0.2.1')).toThrow(refusal);
  // Being refused costs nothing.
  expect(() => limiter.take('192.0.2.1')).toThrow(refusal);
  limiter.take('192.0.2.2');
  clock.at += 10_000;
  limiter.take('192.0.2.1');
  expect(() => limiter.take('192.0.2.1')).toThrow(refusal);
});

test('without a limit everything passes', () => {
  const limiter = new RateLimiter(null, new TestClock());
  for (let i = 0; i < 10_000; i += 1) limiter.take('192.0.2.1');
});

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::'],
  ['2001:0DB8:0001:2::', '2001:db8:1:2::'],
  ['2001:db8::1', '2001:db8:0:0::'],
  ['::1', '0:0:0:0::'],
  ['fe80::1%eth0', 'fe80:0:0:0::'],
  ['no address', 'no address'],
])('%s counts as %s', (address, source) => {
  expect(sourceOf(address)).toBe(source);
});
