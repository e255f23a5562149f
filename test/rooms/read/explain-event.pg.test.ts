import { expect, test } from 'vitest';
import { type EventId, type ServerName, parseEventId } from '../../../src/matrix/identifiers.ts';
import { admitEvents } from '../../../src/rooms/judge/admit.ts';
import { readCorrections } from '../../../src/rooms/read/corrections.ts';
import { explainEvent } from '../../../src/rooms/read/explain-event.ts';
import { readEntriesAbout } from '../../../src/store/events/event-story.ts';
import { recordOmissions } from '../../../src/store/events/left-out.ts';
import { recordMissing } from '../../../src/store/events/missing-events.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, PartialRoom, member, message } from '../resync/partial-room.ts';

const { store } = await openTestStore();

const BOB = '@bob:there.test';
const CAROL = '@carol:elsewhere.test';
const AUTH = ['create', 'power', 'rules'];
const KNOWN = ['create', 'admin', 'power', 'rules'];
const from = { server: 'elsewhere.test' as ServerName, at: Date.UTC(2026, 0, 1) };

/** Bob had left before our join, which nobody told us; he speaks, and Carol after him. */
async function roomWithTruth(): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(
    member('bob', BOB, 'join', { prev: ['rules'], auth: AUTH }),
    member('bob-left', BOB, 'leave', { prev: ['bob'], auth: ['create', 'power', 'bob'] }),
    member('carol', CAROL, 'join', { prev: ['rules'], auth: AUTH }),
  );
  await room.push(message('said', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] }));
  await room.push(message('answered', CAROL, { prev: ['said'], auth: ['create', 'power', 'carol'] }));
  return room;
}

test('an event that is judged provisionally is told so, with what it is judged by', async () => {
  const room = await roomWithTruth();
  const story = await explainEvent({ store }, room.id('said'));
  expect(story).toMatchObject({
    roomId: room.roomId,
    place: 'timeline',
    verdict: 'accepted',
    isProvisional: true,
    event: {
      type: 'm.room.message',
      sender: BOB,
      stateKey: null,
      authEvents: ['create', 'power', 'bob'].map((id) => room.id(id)),
    },
    causes: [],
  });
  expect(story.judgedBy.map(({ says }) => says).toSorted()).toEqual([
    `${ADMIN} created the room`,
    `${BOB} has power level 0`,
    `${BOB} is joined`,
  ]);
  expect(story.lines.join('\n')).toContain('It is accepted, provisionally, by the state that is known so far.');
  expect(story.lines.join('\n')).toContain(`Of other events 1 come next after it (${room.id('answered')}).`);
});

test('a verdict that turns is told with the membership that turned out otherwise and the answer that said so', async () => {
  const room = await roomWithTruth();
  await room.fetch(...KNOWN, 'bob-left', 'carol');
  await room.walk();
  const story = await explainEvent({ store }, room.id('said'));
  expect(story).toMatchObject({ verdict: 'rejected', isProvisional: false });
  expect(story.history.map(({ entry, turned }) => [entry.event.type, turned])).toEqual([
    ['PduAccepted', []],
    [
      'EventUnPartialStated',
      [
        {
          was: { eventId: room.id('bob'), type: 'm.room.member', stateKey: BOB, says: `${BOB} is joined` },
          is: { eventId: room.id('bob-left'), type: 'm.room.member', stateKey: BOB, says: `${BOB} has left` },
        },
      ],
    ],
  ]);
  expect(story.causes.map(({ entry }) => entry.event.type)).toEqual(['StateFetched']);
  const text = story.lines.join('\n');
  expect(text).toContain('it is judged by the full state: accepted before, rejected now');
  expect(text).toContain(
    `before, ${BOB} is joined (${room.id('bob')}); in truth, ${BOB} has left (${room.id('bob-left')})`,
  );
  expect(text).toMatch(/because \(.*\): there\.test gave the state/);
  const answered = await explainEvent({ store }, room.id('answered'));
  expect(answered).toMatchObject({ verdict: 'accepted', isProvisional: false });
});

test('the corrections of a room are those verdicts that turned, with what they rested on, and no others', async () => {
  const room = await roomWithTruth();
  await room.fetch(...KNOWN, 'bob-left', 'carol');
  await room.walk();
  const { corrections, next, head } = await readCorrections({ store }, room.roomId, { after: 0, limit: 100 });
  expect(
    corrections.map(({ entry, turned }) => ['eventId' in entry.event && entry.event.eventId, turned.length]),
  ).toEqual([[room.id('said'), 1]]);
  const rest = await readCorrections({ store }, room.roomId, { after: next, limit: 100 });
  expect(rest).toMatchObject({ corrections: [], head });
});

test('who sent an event is kept with its verdict, and told', async () => {
  const room = await roomWithTruth();
  await room.push(message('first', CAROL, { prev: ['answered'], auth: ['create', 'power', 'carol'] }));
  expect((await explainEvent({ store }, room.id('first'))).lines.join('\n')).toContain('from whom it came is not kept');
  await room.hold(member('dora', '@dora:elsewhere.test', 'join', { prev: ['first'], auth: AUTH }));
  const receipts = new Map([[room.id('dora'), from]]);
  await admitEvents(room.context, room.roomId, [room.id('dora')], { receipts });
  const [entry] = await readEntriesAbout(store, room.roomId, [room.id('dora')]);
  expect(entry?.event).toMatchObject({ type: 'PduAccepted', from });
  const story = await explainEvent({ store }, room.id('dora'));
  expect(story.lines).toContain('It came from elsewhere.test at 2026-01-01T00:00:00.000Z.');
  expect(story.lines).toContain('It is in the current state.');
  expect(story.lines).toContain('It is one of the newest events of the room.');
});

test('outliers, anchors, missing and cited events are told as what they are', async () => {
  const room = await roomWithTruth();
  const [outlier, anchor] = [
    await explainEvent({ store }, room.id('bob')),
    await explainEvent({ store }, room.id('before')),
  ];
  expect(outlier).toMatchObject({ place: 'outlier', verdict: 'accepted' });
  expect(outlier.lines.join('\n')).toContain('not of the timeline; it is accepted by its own auth events');
  expect(outlier.lines.join('\n')).toContain('2 cite it as an auth event');
  expect(anchor).toMatchObject({ place: 'anchor', event: null, verdict: 'unjudged', history: [] });
  expect(anchor.lines.join('\n')).toContain('provisional until a resident gives it');
  const answer = { roomId: room.roomId, epoch: 1, resident: from.server, at: from.at };
  await recordMissing(store, answer, [
    { eventId: room.id('lost'), why: 'not-delivered', type: null, askedOf: [from.server] },
  ]);
  const lost = await explainEvent({ store }, room.id('lost'));
  expect(lost).toMatchObject({ place: 'missing', event: null });
  expect(lost.lines.join('\n')).toContain(
    'A state lacks it since 2026-01-01T00:00:00.000Z (not-delivered), in answers of elsewhere.test.',
  );
});

test('a gap, and an event behind it that waits or was given up, are told with who sent what', async () => {
  const room = await roomWithTruth();
  const eventIds = [room.id('unknown')];
  await room.journal({ type: 'GapOpened', eventIds, origin: from.server, assumedState: null, at: from.at });
  const gap = await explainEvent({ store }, room.id('unknown'));
  expect(gap).toMatchObject({ place: 'gap', event: null });
  expect(gap.lines.join('\n')).toContain('There is a gap at it: an event of elsewhere.test cites it');
  await store.query(
    `INSERT INTO staged_pdus (room_id, event_id, origin, raw, received_at, waits_for, reason, not_before, dropped_at)
     VALUES ($1, $2, $3, '', $4, $5, 'lacks a parent', 0, NULL), ($1, $6, $3, '', $4, '{}', 'badly signed', 0, $4)`,
    [room.roomId, room.id('behind'), from.server, from.at, eventIds, room.id('bad')],
  );
  const behind = await explainEvent({ store }, room.id('behind'));
  expect(behind.place).toBe('staged');
  expect(behind.lines.join('\n')).toContain(`and it waits, for ${room.id('unknown')}: lacks a parent.`);
  const bad = await explainEvent({ store }, room.id('bad'));
  expect(bad.place).toBe('given-up');
  expect(bad.lines.join('\n')).toContain('it was given up at 2026-01-01T00:00:00.000Z: badly signed.');
});

test('a state that is assumed at a gap is told as assumed, and so is what a verdict came of', async () => {
  const room = new PartialRoom(store);
  await room.join();
  const assumedState = await room.state(...AUTH, 'join');
  const origin = 'elsewhere.test' as ServerName;
  await room.journal({ type: 'GapOpened', eventIds: [room.id('gap')], origin, assumedState, at: 3 });
  await room.hold(member('bob', BOB, 'join', { prev: ['rules'], auth: AUTH }));
  await room.push(message('over', ADMIN, { prev: ['gap'], auth: ['create', 'power', 'admin'] }));
  await room.fetch(...KNOWN);
  await room.walk();
  const { lines } = await explainEvent({ store }, room.id('gap'));
  expect(lines.join('\n')).toContain('the state after it is assumed, since nobody has told it.');
  expect(lines.join('\n')).not.toContain('the one a resident gave');
  const { causes } = await explainEvent({ store }, room.id('over'));
  expect(causes.map(({ entry }) => entry.event.type)).toEqual(['GapsAssumed']);
});

test('an event that was soft-failed and is rejected later is told as rejected', async () => {
  const room = await roomWithTruth();
  const soft = { rule: 'sender-not-joined', reason: 'by the current state', authState: [] };
  await room.journal({ type: 'EventSoftFailed', eventId: room.id('said'), ...soft });
  expect(await explainEvent({ store }, room.id('said'))).toMatchObject({ verdict: 'soft-failed' });
  await room.fetch(...KNOWN, 'bob-left', 'carol');
  await room.walk();
  expect(await explainEvent({ store }, room.id('said'))).toMatchObject({ verdict: 'rejected' });
});

test('an event that keeps its verdict on another state is told by what it is judged now, what turned, and by which correction', async () => {
  const room = await roomWithTruth();
  // A resident gives newer power levels, which turn out to be refused, and names the older ones for that case.
  const newer = { content: { users: { [ADMIN]: 100, [BOB]: 50 } }, auth: ['create', 'admin', 'power'] };
  await room.hold({ id: 'newer', type: 'm.room.power_levels', stateKey: '', ...newer });
  await room.fetch('create', 'admin', 'newer', 'rules', 'bob', 'carol');
  await room.walk();
  await recordOmissions(store, room.roomId, room.id('before'), { leftOut: [room.id('power')], awaited: [] });
  expect((await explainEvent({ store }, room.id('said'))).judgedBy.map(({ says }) => says)).toContain(
    `${BOB} has power level 50`,
  );
  const refused = { rule: 'auth-event-rejected', reason: 'it cites what is rejected' };
  const turn = { was: 'accepted', is: 'rejected', cause: 1, ...refused } as const;
  await room.journal({ type: 'VerdictChanged', eventId: room.id('newer'), ...turn });
  await room.correct();

  const story = await explainEvent({ store }, room.id('said'));
  expect(story).toMatchObject({ verdict: 'accepted', isProvisional: false });
  expect(story.judgedBy.map(({ eventId }) => eventId).toSorted()).toEqual(
    ['create', 'power', 'bob'].map((id) => room.id(id)).toSorted(),
  );
  const { entry, turned } = story.history.at(-1)!;
  expect(entry.event.type).toBe('StatesChanged');
  expect(turned).toMatchObject([{ was: { eventId: room.id('newer') }, is: { eventId: room.id('power') } }]);
  expect(story.causes.slice(0, 2).map(({ entry: { event } }) => event.type)).toEqual([
    'AnchorCorrected',
    'VerdictChanged',
  ]);
  const text = story.lines.join('\n');
  expect(text).toContain('it keeps its verdict, and the states before and after it are others now');
  expect(text).toContain(
    `before, ${BOB} has power level 50 (${room.id('newer')}); in truth, ${BOB} has power level 0 (${room.id('power')})`,
  );

  // What turns after that is told against what it was judged by since, and not against its first verdict.
  await room.journal({ type: 'VerdictChanged', eventId: room.id('bob'), ...turn, cause: 2 });
  await room.correct();
  const later = await explainEvent({ store }, room.id('said'));
  expect(later).toMatchObject({ verdict: 'rejected' });
  expect(later.history.at(-1)).toMatchObject({
    entry: { event: { type: 'VerdictChanged' } },
    turned: [{ was: { eventId: room.id('bob') }, is: null }],
  });
});

test('an id that nobody knows is said to be unknown', async () => {
  const unknown: EventId = parseEventId('$nobody-knows-it:there.test')!;
  await expect(explainEvent({ store }, unknown)).rejects.toMatchObject({ kind: 'unknown-event' });
});
