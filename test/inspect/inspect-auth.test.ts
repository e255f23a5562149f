import { describe, expect, test } from 'vitest';
import { inspectAuth } from '../../src/inspect/inspect-auth.ts';
import { hashedEventId, signedText } from '../../src/matrix/signing/hashes.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { rulesOf, without } from '../matrix/sample-event.ts';

const CREATOR = '@creator:one';
const ALICE = '@alice:two';
const ROOM = '!room:one';

/** An event under a label, with no more than the rules look at. */
function labelled(id: string, type: string, sender: string, stateKey: string, content: JsonObject, cited: string[]) {
  const authEvents: Json = cited;
  return {
    event_id: id,
    room_id: ROOM,
    type,
    sender,
    state_key: stateKey,
    content,
    prev_events: ['$p'],
    auth_events: authEvents,
  };
}
const create = { ...labelled('$create', 'm.room.create', CREATOR, '', { room_version: '11' }, []), prev_events: [] };
const rules = labelled('$rules', 'm.room.join_rules', CREATOR, '', { join_rule: 'public' }, ['$create']);
const alice = labelled('$alice', 'm.room.member', ALICE, ALICE, { membership: 'join' }, ['$create', '$rules']);

function answerOf(event: Json, authEvents: Json, version = '11'): JsonObject {
  const inspected = inspectAuth(JSON.stringify({ event, auth_events: authEvents }), rulesOf(version));
  return inspected.ok ? inspected.answer : { error: inspected.rule };
}

describe('inspect auth', () => {
  test('allows, or names the rule that refuses and why', () => {
    expect(answerOf(alice, [create, rules])).toEqual({ allowed: true });
    const knocking = { ...rules, content: { join_rule: 'invite' } };
    expect(answerOf(alice, [create, knocking])).toEqual({
      allowed: false,
      rule: 'join-not-invited',
      reason: expect.any(String) as string,
    });
    expect(answerOf({ ...alice, auth_events: ['$rules'] }, [create, rules])).toMatchObject({
      rule: 'auth-events-lack-create',
    });
    expect(answerOf({ ...alice, auth_events: ['$create', '$create'] }, [create])).toMatchObject({
      rule: 'auth-event-duplicate',
    });
    expect(answerOf({ ...create, prev_events: ['$alice'] }, [])).toMatchObject({ rule: 'create-has-prev-events' });
  });

  test('says that an auth event is missing, which is no verdict about the rules', () => {
    expect(answerOf(alice, [create])).toMatchObject({ allowed: false, rule: 'auth-event-missing' });
  });

  test('takes the create event of version 12, which no event cites', () => {
    const root = without({ ...create, content: { room_version: '12' } }, 'room_id');
    const open = { ...rules, room_id: '!create', auth_events: [] };
    const join = { ...alice, room_id: '!create', auth_events: ['$rules'] };
    expect(answerOf(join, [root, open], '12')).toEqual({ allowed: true });
    expect(answerOf(join, [open], '12')).toMatchObject({ rule: 'auth-event-missing' });
    expect(answerOf({ ...join, auth_events: ['$create', '$rules'] }, [root, open], '12')).toMatchObject({
      allowed: false,
      rule: 'event.auth_events',
    });
  });

  test('names events without labels by their hash', () => {
    const unlabelled = (event: JsonObject, cited: string[]): JsonObject => ({
      ...without(event, 'event_id'),
      auth_events: cited,
      depth: 1,
      origin_server_ts: 1,
    });
    const idOf = (event: JsonObject): string => hashedEventId(signedText(event, rulesOf('11')), rulesOf('11'));
    const root = unlabelled(create, []);
    const open = unlabelled(rules, [idOf(root)]);
    expect(answerOf(unlabelled(alice, [idOf(root), idOf(open)]), [root, open])).toEqual({ allowed: true });
  });

  test.each<[string, JsonObject, string]>([
    [
      'more auth events than an event may cite',
      { ...alice, auth_events: Array<string>(300).fill('$a') },
      'event.auth_events',
    ],
    ['a sender that is a number', { ...alice, sender: 5 }, 'event.sender'],
    ['an event of 1 MB', { ...alice, content: { membership: 'join', x: 'x'.repeat(1_000_000) } }, 'event.size'],
    ['an event that cites itself', { ...alice, auth_events: ['$alice'] }, 'auth-event-missing'],
  ])('refuses %s by a rule', (_, event, rule) => {
    expect(answerOf(event, [create, rules])).toMatchObject({ allowed: false, rule });
  });

  test.each<[string, Json, Json, string]>([
    ['an event that is none', 'x', [], 'document.event'],
    ['auth events that are no list', alice, {}, 'document.auth_events'],
    ['a malformed auth event', alice, [create, { ...rules, content: 5 }], 'event.content'],
    ['two auth events under one label', alice, [create, rules, { ...rules, content: {} }], 'document.auth_events'],
    ['a label that is no string', { ...alice, event_id: 7 }, [], 'event.event_id'],
  ])('has no verdict on %s', (_, event, authEvents, rule) => {
    const answer = answerOf(event, authEvents);
    expect([answer['error'], answer['rule']]).toContain(rule);
  });
});
