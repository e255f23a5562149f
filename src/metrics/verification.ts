/** A verification pool and a key ring that count what they are asked and what comes of it. */
import { type Clock } from '../clock.ts';
import { type KeyRing } from '../federation/key-ring.ts';
import { type CheckOutcome } from '../verification/contract.ts';
import { type VerificationPool } from '../verification/pool.ts';
import { type Instruments, type VerificationOutcome } from './instruments.ts';

/** The pool, with its checks counted by outcome. */
export function countVerifications(pool: VerificationPool, instruments: Instruments, clock: Clock): VerificationPool {
  const { verifications, verificationSeconds, verificationQueue } = instruments;
  return {
    check: async (input) => {
      const events = input.events.length;
      const startedAt = clock.now();
      verificationQueue.inc(events);
      try {
        const outcomes = await pool.check(input);
        for (const [outcome, count] of tally(outcomes)) verifications.inc({ outcome }, count);
        verificationSeconds.observe(Math.max(0, clock.now() - startedAt) / 1000);
        return outcomes;
      } catch (error) {
        verifications.inc({ outcome: 'unfinished' }, events);
        throw error;
      } finally {
        verificationQueue.dec(events);
      }
    },
    readBody: (claim, body, signal) => pool.readBody(claim, body, signal),
    screen: (input) => pool.screen(input),
    close: () => pool.close(),
  };
}

/** One step of a counter an outcome and batch, instead of one an event. */
function tally(outcomes: readonly CheckOutcome[]): Map<VerificationOutcome, number> {
  const counts = new Map<VerificationOutcome, number>();
  for (const checked of outcomes) {
    const outcome = checked.outcome === 'passed' && checked.pdu.hollow ? 'hollow' : checked.outcome;
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  }
  return counts;
}

/** The key ring, with the keys counted that it found and did not find. */
export function countKeys({ resolve }: KeyRing, { keys }: Instruments): KeyRing {
  return {
    resolve: async (requests, signal, asker) => {
      const found = await resolve(requests, signal, asker);
      const names = new Set(found.map(({ serverName, keyId }) => `${serverName} ${keyId}`));
      const wanted = new Set(requests.map(({ serverName, keyId }) => `${serverName} ${keyId}`));
      const had = [...wanted].filter((name) => names.has(name)).length;
      keys.inc({ outcome: 'found' }, had);
      keys.inc({ outcome: 'missing' }, wanted.size - had);
      return found;
    },
  };
}
