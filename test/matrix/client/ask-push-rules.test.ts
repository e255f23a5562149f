import { describe, expect, test } from 'vitest';
import { type PushFacts, askPushRules } from '../../../src/matrix/client/ask-push-rules.ts';
import { type PushRule, type PushRuleKind } from '../../../src/matrix/client/default-push-rules.ts';
import { isWhole, isWithin, parseGlob } from '../../../src/matrix/client/glob.ts';
import { type UserId } from '../../../src/matrix/identifiers.ts';
import { NO_CHANGES, pushRulesOf, withRule, withRuleChanged } from '../../../src/matrix/client/push-rules.ts';
import { type Json, type JsonObject } from '../../../src/matrix/pdu.ts';

const FRY = '@fry:here.test' as UserId;
const LEELA = '@leela:there.test';
const FACTS: PushFacts = { displayName: 'Philip J. Fry', joined: 5, mayNotify: () => false };

const event = (content: JsonObject, over: JsonObject = {}): JsonObject => ({
  ...{ type: 'm.room.message', sender: LEELA, room_id: '!ship:there.test', content },
  ...over,
});
const says = (body: string, over: JsonObject = {}): JsonObject => event({ msgtype: 'm.text', body, ...over });

/** By the rules that everybody has, and what comes before them. */
function ask(of: JsonObject, facts: Partial<PushFacts> = {}, changes = NO_CHANGES): string {
  const { isNotified, isHighlighted } = askPushRules(pushRulesOf(FRY, changes))(of, { ...FACTS, ...facts });
  return isHighlighted ? 'highlight' : isNotified ? 'notify' : 'nothing';
}

const withOwn = (kind: PushRuleKind, rule: Omit<PushRule, 'isEnabled'>) => withRule(NO_CHANGES, kind, rule, undefined);
const when = (...conditions: Json[]) =>
  withOwn('override', { ruleId: 'mine', conditions, actions: ['notify', { set_tweak: 'highlight' }] });

describe('by the rules that everybody has', () => {
  test.each([
    ['a message', says('good news'), 'notify'],
    ['an encrypted one', event({}, { type: 'm.room.encrypted' }), 'notify'],
    ['a notice', event({ msgtype: 'm.notice', body: 'fry' }), 'nothing'],
    ['a member who comes', event({ membership: 'join' }, { type: 'm.room.member', state_key: LEELA }), 'nothing'],
    ['an invitation of the user', event({ membership: 'invite' }, { type: 'm.room.member', state_key: FRY }), 'notify'],
    ['a reaction', event({}, { type: 'm.reaction' }), 'nothing'],
    ['the end of the room', event({}, { type: 'm.room.tombstone', state_key: '' }), 'highlight'],
    ['an edit', says('fry', { 'm.relates_to': { rel_type: 'm.replace' } }), 'nothing'],
    ['what no rule knows', event({}, { type: 'org.example' }), 'nothing'],
    ['the name of the account as a word', says('hey FRY!'), 'highlight'],
    ['as part of a word', says('french-fry_s and frying'), 'notify'],
    ['what he is called', says('is philip j. fry there?'), 'highlight'],
    ['his name, where others are named', says('fry', { 'm.mentions': {} }), 'notify'],
    ['him, named', says('you', { 'm.mentions': { user_ids: [FRY] } }), 'highlight'],
    ['the room, by who may not', says('@room come', { 'm.mentions': { room: true } }), 'notify'],
  ])('%s', (_, of, told) => {
    expect(ask(of)).toBe(told);
  });

  test('the room may be called by who has the power', () => {
    const facts = { mayNotify: (sender: string, key: string) => sender === LEELA && key === 'room' };
    expect(ask(says('@room come', { 'm.mentions': { room: true } }), facts)).toBe('highlight');
    expect(ask(says('@room come'), facts)).toBe('highlight');
    expect(ask(says('@rooms'), facts)).toBe('notify');
  });

  test('nothing where all is switched off', () => {
    const off = withRuleChanged(NO_CHANGES, FRY, 'override', '.m.rule.master', { isEnabled: true });
    expect(ask(says('fry'), {}, off)).toBe('nothing');
  });
});

describe('conditions', () => {
  const countIs = (is: string) => when({ kind: 'room_member_count', is });
  test.each([
    ['5', 5, true],
    ['==5', 4, false],
    ['<5', 4, true],
    ['>5', 5, false],
    ['>=5', 5, true],
    ['<=5', 6, false],
    ['about 5', 5, false],
    ['5', null, false],
  ])('members %s of %s', (is, joined, holds) => {
    expect(ask(event({}), { joined }, countIs(is))).toBe(holds ? 'highlight' : 'notify');
  });

  test.each<[string, Json, boolean]>([
    ['a whole value', { kind: 'event_match', key: 'sender', pattern: '@LEELA:*' }, true],
    ['no part of one', { kind: 'event_match', key: 'sender', pattern: 'leela' }, false],
    ['a dot in a name', { kind: 'event_match', key: String.raw`content.m\.x.y`, pattern: 'z' }, true],
    ['a name that is not there', { kind: 'event_match', key: 'content.constructor.name', pattern: '*' }, false],
    ['what is no text', { kind: 'event_match', key: 'content.n', pattern: '1' }, false],
    ['a number as it is', { kind: 'event_property_is', key: 'content.n', value: 1 }, true],
    ['null as it is', { kind: 'event_property_is', key: 'content.none', value: null }, true],
    ['what stands in a list', { kind: 'event_property_contains', key: 'content.list', value: 2 }, true],
    ['a kind nobody knows', { kind: 'org.example' }, false],
    ['without its pattern', { kind: 'event_match', key: 'sender' }, false],
    ['no condition', 'x', false],
  ])('%s', (_, condition, holds) => {
    const of = event({ 'm.x': { y: 'z' }, n: 1, none: null, list: [1, 2] });
    expect(ask(of, {}, when(condition))).toBe(holds ? 'highlight' : 'notify');
  });

  test('rules of rooms and senders name them', () => {
    const quiet = { actions: [], conditions: undefined };
    expect(ask(says('x'), {}, withOwn('room', { ...quiet, ruleId: '!ship:there.test' }))).toBe('nothing');
    expect(ask(says('x'), {}, withOwn('room', { ...quiet, ruleId: '!other:there.test' }))).toBe('notify');
    expect(ask(says('x'), {}, withOwn('sender', { ...quiet, ruleId: LEELA }))).toBe('nothing');
  });

  test('a highlight may be switched off', () => {
    const actions = ['notify', { set_tweak: 'highlight', value: false }];
    expect(ask(says('x'), {}, withOwn('sender', { ruleId: LEELA, actions }))).toBe('notify');
  });

  test('more than may be searched in one event is not found, and takes no time', () => {
    let changes = NO_CHANGES;
    for (let i = 0; i < 2_000; i += 1) {
      const pattern = `${'a?'.repeat(100)}${i}`;
      changes = withRule(changes, 'content', { ruleId: `r${i}`, pattern, actions: ['notify'] }, undefined) ?? changes;
    }
    expect(ask(says('a'.repeat(60_000)), {}, changes)).toBe('notify');
  });
});

describe('patterns', () => {
  test.each([
    ['a*c', 'abbc', true],
    ['a*c', 'ab', false],
    ['a?c', 'abc', true],
    ['a?c', 'ac', false],
    ['*', '', true],
    ['a*a', 'a', false],
    ['*b*', 'abc', true],
    ['a**b', 'a-b', true],
    ['a*b?d', 'a b bcd', true],
  ])('%s is all of %s: %s', (pattern, text, is) => {
    expect(isWhole(parseGlob(pattern), text)).toBe(is);
  });

  test.each([
    ['cake', 'Cake is a lie', true],
    ['cake', 'cupcakes', false],
    ['cake', 'cupcakes, cake', true],
    ['cake*lie', 'my cake is a lie.', true],
    ['lie*cake', 'my cake is a lie.', false],
    ['ca?e', 'a cave', true],
    ['@room', 'all:@room!', true],
    ['@room', 'x@roomy', false],
  ])('%s is within %s: %s', (pattern, text, is) => {
    expect(isWithin(parseGlob(pattern), text)).toBe(is);
  });
});
