/** Many rooms whose one resident is down: what they ask of it in an hour of a clock that the test moves. */
import { expect, test } from 'vitest';
import { FederationError } from '../../../src/federation/error.ts';
import { type ResyncEvent } from '../../../src/resync/events.ts';
import { evolve } from '../../../src/resync/evolve.ts';
import { nextAction } from '../../../src/resync/next-action.ts';
import { defaultResyncPolicy, nextRoundAt } from '../../../src/resync/policy.ts';
import { type ResyncState } from '../../../src/resync/state.ts';
import { viewHealth } from '../../../src/rooms/resync/destination-health.ts';
import { silent } from '../../federation/tls-server.ts';
import { failed, given, joined, server } from '../../resync/events.ts';
import { openTestStore } from '../../support/postgres.ts';

const { store } = await openTestStore();

const HOUR = 3_600_000;
/** A thousand take a minute. */
const ROOMS = process.env['REJOINDER_TESTS'] === 'full' ? 1_000 : 100;
const DEAD = server('dead.test');
const START = 1_700_000_000_000;

/** So many requests does it meet while so many rooms want their state of it. */
async function requestsInAnHour(rooms: number): Promise<number> {
  await store.query('DELETE FROM destinations');
  let now = START;
  let requests = 0;
  const health = () => viewHealth({ store, clock: { now: () => now }, logger: silent, ring: () => Promise.resolve() });
  const states: ResyncState[] = Array.from({ length: rooms }, () =>
    given(joined({ joinedVia: DEAD, serversInRoom: [DEAD], at: START })),
  );
  const die = (): Promise<never> => {
    requests += 1;
    return Promise.reject(new FederationError(DEAD, 'unreachable', 'nobody listens'));
  };
  for (; now < START + HOUR; now = Math.min(...states.map(({ nextWakeAt }) => nextWakeAt ?? now))) {
    for (const [i, before] of states.entries()) {
      let state = before;
      for (let action = nextAction(state, now); action.type !== 'sleep'; action = nextAction(state, now)) {
        const entry: ResyncEvent =
          action.type === 'fetchState'
            ? await health()
                .ask(DEAD, die)
                .catch((error: unknown) => {
                  const { kind: failure, retryAfterMs } = error as FederationError;
                  const patience = retryAfterMs === undefined ? {} : { retryAt: now + retryAfterMs };
                  return failed(state.attempts + 1, DEAD, { failure, outcome: 'transient', at: now, ...patience });
                })
            : {
                ...{ type: 'RoundFailed', round: state.round, reason: 'no', at: now },
                wakeAt: nextRoundAt(state, defaultResyncPolicy, now, i / rooms),
              };
        state = evolve(state, entry);
      }
      states[i] = state;
    }
  }
  return requests;
}

test(
  `${ROOMS} rooms that wait for one dead server ask it hardly more often than one room alone`,
  { timeout: 300_000 },
  async () => {
    const alone = await requestsInAnHour(1);
    expect(alone).toBe(7);
    expect(await requestsInAnHour(ROOMS)).toBeLessThanOrEqual(alone + 3);
  },
);
