/**
 * Asks a user's push rules of an event: whether he is notified of it, and whether it is one that concerns him. Pure.
 *
 * Rules are the user's own words and events are strangers', so what may be searched for is bounded: beyond it nothing is found.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#push-rules
 */
import { ownValue } from '../content.ts';
import { isJsonObject } from '../json/strict-json.ts';
import { type Json, type JsonObject } from '../pdu.ts';
import { PUSH_RULE_KINDS, type PushRule, type PushRuleKind, type PushRules } from './default-push-rules.ts';
import { type Glob, isWhole, isWithin, parseGlob } from './glob.ts';

/** What rules ask about the room and the user. */
export interface PushFacts {
  /** `null`: he has none. */
  readonly displayName: string | null;
  /** `null`: not known. */
  readonly joined: number | null;
  /** Whether somebody may notify all of the room: https://spec.matrix.org/v1.16/client-server-api/#mroompower_levels */
  readonly mayNotify: (sender: string, key: string) => boolean;
}

export interface Notice {
  readonly isNotified: boolean;
  readonly isHighlighted: boolean;
}

/** What is looked for in the long texts of one event at the most, characters times patterns. */
const SEARCHED_MAX = 5_000_000;
/** Types and ids are not longer, and cost next to nothing. */
const SHORT_CHARS = 255;
const NOTHING: Notice = { isNotified: false, isHighlighted: false };

/** Which say nothing of an event that names those it mentions itself. */
const GUESSES: ReadonlySet<string> = new Set([
  '.m.rule.contains_display_name',
  '.m.rule.contains_user_name',
  '.m.rule.roomnotif',
]);

/** An event in the form of clients, the facts about it, and what may still be searched of it. */
interface Asked {
  readonly event: JsonObject;
  readonly facts: PushFacts;
  left: number;
}

type Test = (asked: Asked) => boolean;
const NEVER: Test = () => false;

interface ReadRule {
  readonly isGuess: boolean;
  readonly tests: readonly Test[];
  readonly notice: Notice;
}

/** Reads rules once for many events. */
export function askPushRules(rules: PushRules): (event: JsonObject, facts: PushFacts) => Notice {
  const read = PUSH_RULE_KINDS.flatMap((kind) =>
    rules[kind].filter(({ isEnabled }) => isEnabled).map((rule) => readRule(kind, rule)),
  );
  return (event, facts) => {
    const asked: Asked = { event, facts, left: SEARCHED_MAX };
    const { content } = event;
    const saysWhom = isJsonObject(content) && Object.hasOwn(content, 'm.mentions');
    const first = read.find(({ isGuess, tests }) => !(isGuess && saysWhom) && tests.every((holds) => holds(asked)));
    return first?.notice ?? NOTHING;
  };
}

function readRule(kind: PushRuleKind, rule: PushRule): ReadRule {
  return {
    isGuess: GUESSES.has(rule.ruleId),
    tests: testsOf(kind, rule),
    notice: {
      isNotified: rule.actions.some((action) => action === 'notify' || action === 'coalesce'),
      isHighlighted: rule.actions.some(
        (action) => isJsonObject(action) && action['set_tweak'] === 'highlight' && action['value'] !== false,
      ),
    },
  };
}

function testsOf(kind: PushRuleKind, { ruleId, conditions = [], pattern = '' }: PushRule): readonly Test[] {
  switch (kind) {
    case 'override':
    case 'underride':
      return conditions.map(testOf);
    case 'content':
      return [matches('content.body', pattern)];
    case 'room':
      return [({ event }) => event['room_id'] === ruleId];
    case 'sender':
      return [({ event }) => event['sender'] === ruleId];
  }
}

/** Conditions of a kind that is not known never hold, as the specification asks. */
function testOf(condition: Json): Test {
  if (!isJsonObject(condition)) return NEVER;
  const { kind, key, pattern, value, is } = condition;
  if (typeof kind !== 'string') return NEVER;
  switch (kind) {
    case 'event_match':
      return typeof key === 'string' && typeof pattern === 'string' ? matches(key, pattern) : NEVER;
    case 'event_property_is':
      return typeof key === 'string' && isPlain(value) ? ({ event }) => propertyAt(event, key) === value : NEVER;
    case 'event_property_contains':
      return typeof key === 'string' && isPlain(value) ? ({ event }) => holds(propertyAt(event, key), value) : NEVER;
    case 'contains_display_name':
      return (asked) => asked.facts.displayName !== null && isSaid(asked, asked.facts.displayName);
    case 'sender_notification_permission':
      return typeof key === 'string'
        ? ({ event: { sender }, facts }) => typeof sender === 'string' && facts.mayNotify(sender, key)
        : NEVER;
    case 'room_member_count':
      return typeof is === 'string' ? counts(is) : NEVER;
    default:
      return NEVER;
  }
}

function matches(key: string, pattern: string): Test {
  const path = pathOf(key);
  const glob = parseGlob(pattern);
  const isBody = key === 'content.body';
  return (asked) => {
    const value = valueAt(asked.event, path);
    if (typeof value !== 'string' || !maySearch(asked, value, glob)) return false;
    return isBody ? isWithin(glob, value) : isWhole(glob, value);
  };
}

/** Whether a name is among the words of a message. */
function isSaid(asked: Asked, name: string): boolean {
  const body = propertyAt(asked.event, 'content.body');
  const glob = parseGlob(name, { isLiteral: true });
  return name !== '' && typeof body === 'string' && maySearch(asked, body, glob) && isWithin(glob, body);
}

function maySearch(asked: Asked, text: string, { cost }: Glob): boolean {
  if (text.length <= SHORT_CHARS) return true;
  asked.left -= text.length * cost;
  return asked.left >= 0;
}

/** `is`: a number of members, with `==`, `<`, `>`, `>=` or `<=` before it. */
function counts(is: string): Test {
  const [, sign = '==', digits] = /^(==|<=|>=|<|>)?(\d{1,15})$/.exec(is) ?? [];
  if (digits === undefined) return NEVER;
  const limit = Number(digits);
  const compare: Readonly<Record<string, (joined: number) => boolean>> = {
    '==': (joined) => joined === limit,
    '<': (joined) => joined < limit,
    '>': (joined) => joined > limit,
    '<=': (joined) => joined <= limit,
    '>=': (joined) => joined >= limit,
  };
  const holdsFor = compare[sign];
  return ({ facts: { joined } }) => joined !== null && holdsFor?.(joined) === true;
}

function isPlain(value: Json | undefined): value is string | number | boolean | null {
  return value === null || ['string', 'number', 'boolean'].includes(typeof value);
}

function holds(list: Json | undefined, value: Json): boolean {
  return Array.isArray(list) && (list as readonly Json[]).includes(value);
}

function propertyAt(event: JsonObject, key: string): Json | undefined {
  return valueAt(event, pathOf(key));
}

/** Names are parted by dots; a backslash makes a dot, or a backslash, part of a name. */
function pathOf(key: string): readonly string[] {
  const parts = key.match(/(?:\\[\\.]|[^.])+|(?<=^|\.)(?=\.|$)/g) ?? [];
  return parts.map((part) => part.replace(/\\([\\.])/g, '$1'));
}

function valueAt(event: JsonObject, path: readonly string[]): Json | undefined {
  let value: Json | undefined = event;
  for (const name of path) {
    if (!isJsonObject(value)) return undefined;
    value = ownValue(value, name);
  }
  return value;
}
