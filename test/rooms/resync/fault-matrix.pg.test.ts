/** What is journalled of an attempt, and what becomes of the room, for each way to fail at each endpoint: at the first resident, and at all. */
import { describe, expect, test } from 'vitest';
import { type AttemptOutcome } from '../../../src/resync/attempts.ts';
import { type FailureClass } from '../../../src/resync/events.ts';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { A, B, type Script, honestScript, refuse, smallRoom, startScripted } from '../../support/scripted-room.ts';

const FAILURES: readonly (readonly [FailureClass, AttemptOutcome, number | undefined])[] = [
  ['unreachable', 'transient', undefined],
  ['timeout', 'transient', undefined],
  ['server-error', 'transient', 502],
  ['rate-limited', 'rate-limited', 429],
  ['forbidden', 'not-in-room', 403],
  ['not-found', 'unknown-event', 404],
  ['partial-state-there', 'partial-there', 403],
  ['too-large', 'too-large', 200],
  ['malformed', 'invalid', 200],
];
const ENDPOINTS = ['state_ids', 'state', 'event'] as const;

interface Journalled {
  readonly resident: ServerName;
  readonly outcome?: AttemptOutcome;
  readonly endpoint?: string;
}

/** Servers fail at one endpoint in one way; gives what the journal says of attempts, in order, and the state when nothing is left to do. */
async function failing(
  failure: FailureClass,
  status: number | undefined,
  endpoint: string,
  servers: readonly ServerName[],
) {
  const small = smallRoom();
  const script: Script = honestScript(small);
  const here = await startScripted(small.room, script);
  await here.join();
  const fail = (server: ServerName): void => {
    if (servers.includes(server)) refuse(server, failure, status === undefined ? { status: undefined } : { status });
  };
  const { stateIds, state, event } = script;
  if (endpoint === 'state_ids') script.stateIds = (server, ...rest) => (fail(server), stateIds(server, ...rest));
  if (endpoint === 'state') script.state = (server, at) => (fail(server), state(server, at));
  if (endpoint === 'event') script.event = (server, eventId) => (fail(server), event(server, eventId));
  const resync = await here.resync();
  const rows = await here.store.query<{ data: Journalled }>(
    `SELECT data FROM journal WHERE type IN ('StateFetchFailed', 'StateFetched') ORDER BY position`,
  );
  return { resync, journal: rows.map(({ data }) => data) };
}

const cases = ENDPOINTS.flatMap((endpoint) =>
  FAILURES.map(([failure, outcome, status]) => ({ endpoint, failure, outcome, status })),
);

describe('a failure at the first resident', () => {
  test.each(cases)('$failure at /$endpoint is told as what it means, and the next one gives the state', async (one) => {
    const { endpoint, failure, status } = one;
    const { resync, journal } = await failing(failure, status, endpoint, [A]);
    // One event that does not come is a hole in what its server names, however it was refused.
    const [outcome, at] = endpoint === 'event' ? ['invalid', 'state'] : [one.outcome, endpoint];
    expect(journal).toMatchObject([{ resident: A, outcome, endpoint: at }, { resident: B }]);
    expect(journal[1]).not.toHaveProperty('outcome');
    expect(resync.phase).toBe('complete');
  });
});

describe('a failure at all residents', () => {
  test.each(cases.filter(({ endpoint }) => endpoint === 'state_ids'))(
    '$failure: the room waits, or is parked where nobody can give more',
    async (one) => {
      const { failure, status, outcome } = one;
      const { resync, journal } = await failing(failure, status, 'state_ids', [A, B]);
      const outcomes = new Set(journal.map((entry) => entry.outcome));
      // A server that did not let us in may not have heard of the join yet.
      const expected = outcome === 'not-in-room' ? [outcome, 'not-yet-joined-there'] : [outcome];
      expect([...outcomes].sort()).toEqual(expected.sort());
      expect(resync.phase).toBe(outcome === 'too-large' ? 'parked' : 'waiting');
    },
  );
});
