import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { describeResync, explain } from '../../src/resync/explain.ts';
import { shownPhase } from '../../src/resync/state.ts';
import { anEvent, completed, eventId, failed, fetched, given, joined, roundFailed, started, walked } from './events.ts';

test('a room without a resync says so and nothing else', () => {
  expect(describeResync(given())).toBe('**Nothing to do: the room has no resync**');
});

test('a fresh join says through whom and when, and that a resident is being chosen', () => {
  expect(describeResync(given(joined()))).toBe(
    '**Choosing a resident**\n\nJoined via a at 1970-01-01T00:00:01.000Z; 3 servers may be asked.',
  );
});

test('a fetch names its resident, its attempt and its round', () => {
  const text = describeResync(given(joined(), started(1, 'a')));
  expect(text).toContain('**Fetching state from a**');
  expect(text).toContain('Attempts: 1, round 1.');
});

test('a wait says until when, and why', () => {
  const text = describeResync(given(joined(), started(1, 'a'), failed(1, 'a'), roundFailed(1, 40_000)));
  expect(text).toContain('**Waiting until 1970-01-01T00:00:40.000Z: every resident failed**');
  expect(text).toContain('Last failure: a, transient: `a answered 500` (1970-01-01T00:00:03.000Z).');
});

test('a stranger’s reason cannot become Markdown', () => {
  const reason = '`**whole**` [look](https://evil.test)';
  expect(describeResync(given(joined(), failed(1, 'a', { reason })))).toContain(
    "`'**whole**' [look](https://evil.test)`",
  );
});

test('a walk says what was fetched, judged and corrected', () => {
  const text = describeResync(given(joined(), started(1, 'a'), fetched(1, 'a'), walked(250, 4)));
  expect(text).toContain('**Judging partial events with full state**');
  expect(text).toContain('State: 200 events, auth chain 40; 230 fetched, 8 held before, 2 dropped.');
  expect(text).toContain('Events judged again: 250, corrected: 4.');
});

test('a state that was taken without what nobody gave a usable copy of says what, why and who gave such copies', () => {
  const unusable = {
    listed: [{ eventId: eventId('forged'), why: 'badly-signed' as const, from: ['a' as ServerName] }],
    count: 3,
  };
  const counts = { state: 200, authChain: 40, members: 180, fetched: 230, alreadyHeld: 8, dropped: 4, unusable };
  const entry = fetched(1, 'a', { counts });
  const why = `4 dropped, 3 of them for want of a copy that can be used (${eventId('forged')}: badly-signed, as a gave it)`;
  expect(explain(entry)).toContain(why);
  expect(describeResync(given(joined(), entry))).toContain(why.replace(eventId('forged'), `\`${eventId('forged')}\``));
});

test('a whole room says how many members it has', () => {
  expect(describeResync(given(joined(), fetched(1, 'a'), completed))).toContain('**Complete: 180 members**');
});

test('a degraded room is called that and never complete or whole, with what it lacks', () => {
  const listed = [{ eventId: eventId('lost'), why: 'key-missing' as const }];
  const state = given(joined(), fetched(1, 'a', { missing: { listed, count: 3, fell: 2 } }), {
    type: 'ResyncCompleted',
    members: 180,
    lacking: 3,
    at: 7_000,
  });
  expect(shownPhase(state)).toBe('degraded');
  const text = describeResync(state);
  expect(text).toContain('**Degraded: 180 members, and 3 events of the state could not be had**');
  expect(text).toContain('`$lost` (key-missing)');
  const told = explain({ type: 'ResyncCompleted', members: 180, lacking: 3, at: 7_000 });
  expect(told).toBe('The room is degraded: 180 members, and 3 events of the state could not be had');
  expect(`${text} ${told}`).not.toMatch(/whole|complete/i);
  expect(shownPhase(given(joined(), fetched(1, 'a'), completed))).toBe('complete');
});

test('every state can be described, in few lines', () => {
  fc.assert(
    fc.property(fc.array(anEvent, { maxLength: 30 }), (events) => {
      const text = describeResync(given(...events));
      expect(text).toMatch(/^\*\*[A-Z].*\*\*/);
      expect(text.split('\n\n').length).toBeLessThanOrEqual(12);
    }),
  );
});
