import { expect, test } from 'vitest';
import { type Draft, redaction } from '../../../src/matrix/compose.ts';
import { type EventId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { eventIdOf } from '../../../src/matrix/signing/hashes.ts';
import { residentAnswers } from '../../../src/rooms/resident/answers.ts';
import { sendEvent } from '../../../src/rooms/send/send-event.ts';
import { CAROL, hostRoom } from './hosted-room.ts';
import { A, ME, honestScript, smallRoom, startScripted } from '../../support/scripted-room.ts';

const STRANGER = 'stranger.test' as ServerName;

async function startHere(isWhole: boolean) {
  const small = smallRoom();
  const here = await startScripted(small.room, honestScript(small));
  const join = await here.join();
  const { roomId, rules } = small.room;
  const say = (body: string): Promise<EventId> => {
    const draft: Draft = { sender: ME, type: 'm.room.message', content: { body } };
    return sendEvent(here.context, roomId, draft);
  };
  const said = [await say('one'), await say('two'), await say('three')];
  if (isWhole) expect(await here.resync()).toMatchObject({ phase: 'complete' });
  const idsOf = (texts: unknown): EventId[] =>
    (texts as readonly string[]).map((text) => eventIdOf(JSON.parse(text) as JsonObject, rules));
  return { ...here, small, roomId, said, join, idsOf, answers: residentAnswers(here.context) };
}

test('of a partial room servers are told what our users said, and nothing else', async () => {
  const { answers, roomId, said, join, idsOf, small } = await startHere(false);
  const [one, two, three] = said as [EventId, EventId, EventId];
  expect(idsOf(await answers.event(one, A))).toEqual([one]);
  const query = { earliest: [one], latest: [three], limit: 10, minDepth: 0 };
  expect(idsOf(await answers.missingEvents(roomId, query, A))).toEqual([two]);
  const all = await answers.missingEvents(roomId, { ...query, earliest: [] }, A);
  expect(idsOf(all)).toEqual([join, one, two]);
  expect(idsOf(await answers.backfill(roomId, [three], 2, A))).toEqual([three, two]);
  expect(await answers.stateIds(roomId, two, A)).toBe('partial');
  expect(await answers.state(roomId, two, A)).toBe('partial');
  expect(await answers.event(small.create, A)).toBe('partial');
  expect(await answers.eventAuth(roomId, small.message, A)).toBe('partial');
  expect(typeof (await answers.eventAuth(roomId, one, A))).not.toBe('string');
});

test('of a whole room its servers are told the state before an event, exactly', async () => {
  const { answers, roomId, said, join, small } = await startHere(true);
  const [one] = said as [EventId];
  const ids = await answers.stateIds(roomId, one, A);
  expect(ids).toMatchObject({ authChain: expect.any(Array) as EventId[] });
  if (typeof ids === 'string') throw new Error(ids);
  expect([...ids.state].sort()).toEqual([...small.state, join].sort());
  expect(ids.authChain).toContain(small.create);
  const state = await answers.state(roomId, one, A);
  if (typeof state === 'string') throw new Error(state);
  const given: string[] = [];
  for await (const page of state.pdus) given.push(...page);
  expect(given).toHaveLength(ids.state.length);
});

test('what was taken back is given to servers as the redaction leaves it, under its own id, wherever they ask for it', async () => {
  const here = await startHere(true);
  const { answers, context, roomId, said, small, idsOf } = here;
  const [one, two] = said as [EventId, EventId];
  const { rules } = small.room;
  const named = await sendEvent(context, roomId, {
    ...{ sender: ME, type: 'm.room.member', stateKey: ME, content: { membership: 'join', displayname: 'secret' } },
  });
  for (const target of [one, named]) {
    await sendEvent(context, roomId, redaction({ sender: ME, content: {} }, target, rules));
  }
  const last = await sendEvent(context, roomId, { sender: ME, type: 'm.room.message', content: { body: 'last' } });
  const texts = async (given: unknown): Promise<readonly string[]> => {
    if (Array.isArray(given)) return given as string[];
    const pages: string[] = [];
    for await (const page of given as AsyncIterable<readonly string[]>) pages.push(...page);
    return pages;
  };
  const state = await answers.state(roomId, last, A);
  if (typeof state === 'string') throw new Error(state);
  const query = { earliest: [], latest: [last], limit: 20, minDepth: 0 };
  for (const [target, content, given] of [
    [one, {}, await answers.event(one, A)],
    [one, {}, await answers.missingEvents(roomId, query, A)],
    [one, {}, await answers.backfill(roomId, [last], 20, A)],
    [named, { membership: 'join' }, await answers.backfill(roomId, [last], 20, A)],
    [named, { membership: 'join' }, state.pdus],
    [named, { membership: 'join' }, await answers.eventAuth(roomId, last, A)],
  ] as const) {
    const all = await texts(given);
    const text = all[idsOf(all).indexOf(target)];
    expect(JSON.parse(text ?? '{}')).toMatchObject({ content, hashes: {}, signatures: {} });
    expect((JSON.parse(text ?? '{}') as JsonObject)['content']).toEqual(content);
    expect(all.join('')).not.toContain('secret');
  }
  expect((await texts(await answers.event(two, A)))[0]).toContain('two');
});

test('what our users said before a server joined is hidden from it where the history is for members', async () => {
  const visibility = { type: 'm.room.history_visibility', stateKey: '', content: { history_visibility: 'joined' } };
  const here = await hostRoom('11', { initialState: [visibility] });
  const say = (body: string): Promise<EventId> =>
    sendEvent(here.context, here.roomId, { sender: ME, type: 'm.room.message', content: { body } });
  const hidden = await say('SECRET');
  await here.join(CAROL);
  const shown = await say('welcome');
  const answers = residentAnswers(here.context);
  const query = { earliest: [], latest: [shown], limit: 20, minDepth: 0 };
  const idsOf = (texts: unknown) =>
    (texts as readonly string[]).map((text) => here.idOf(JSON.parse(text) as JsonObject));
  for (const given of [
    await answers.event(hidden, A),
    await answers.backfill(here.roomId, [shown], 20, A),
    await answers.missingEvents(here.roomId, query, A),
  ]) {
    expect(idsOf(given)).toContain(hidden);
    expect(JSON.stringify(given)).not.toContain('SECRET');
  }
  expect(JSON.stringify(await answers.event(shown, A))).toContain('welcome');
});

test('the nearest event to a time is told, of a whole room and to servers that are in it', async () => {
  const { answers, roomId, said, context } = await startHere(true);
  const rows = await context.store.query<{ id: EventId; at: number }>(
    `SELECT event_id AS id, origin_server_ts AS at FROM pdus WHERE event_id = ANY ($1::text[])`,
    [said],
  );
  const times = new Map(rows.map(({ id, at }) => [id, at]));
  const last = said.at(-1)!;
  const newest = Math.max(...times.values());
  const told = await answers.eventAtTime(roomId, { at: newest + 1, direction: 'backwards' }, A);
  expect(told).toEqual({ eventId: expect.stringMatching(/^\$/) as string, at: newest });
  expect(times.get(last)).toBe(newest);
  expect(await answers.eventAtTime(roomId, { at: newest + 1, direction: 'forwards' }, A)).toBe('unknown');
  expect(await answers.eventAtTime(roomId, { at: 0, direction: 'forwards' }, STRANGER)).toBe('not-in-room');
  const partial = await startHere(false);
  expect(await partial.answers.eventAtTime(partial.roomId, { at: 0, direction: 'forwards' }, A)).toBe('partial');
});

test('who is not in the room is told nothing, and nobody of what is not there', async () => {
  const { answers, roomId, said } = await startHere(true);
  const [one] = said as [EventId];
  const query = { earliest: [], latest: [one], limit: 10, minDepth: 0 };
  expect(await answers.event(one, STRANGER)).toBe('not-in-room');
  expect(await answers.stateIds(roomId, one, STRANGER)).toBe('not-in-room');
  expect(await answers.missingEvents(roomId, query, STRANGER)).toBe('not-in-room');
  expect(await answers.backfill(roomId, [one], 5, STRANGER)).toBe('not-in-room');
  expect(await answers.event('$nothing' as EventId, A)).toBe('unknown');
  expect(await answers.stateIds(roomId, '$nothing' as EventId, A)).toBe('unknown');
  expect(await answers.missingEvents(roomId, { ...query, latest: ['$nothing' as EventId] }, A)).toEqual([]);
});
