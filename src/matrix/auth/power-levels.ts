/**
 * Power levels as the auth rules read them: the level of a user, of an action, and of sending an event type, with the
 * defaults that apply when m.room.power_levels is absent or silent.
 *
 * A level that cannot be read is `undefined`, and every comparison with it is false: whatever asked for power gets none.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#mroompower_levels
 */
import { ownString, ownValue } from '../content.ts';
import { NUMBER_SPELLINGS, type SpelledNumbers } from '../json/json-numbers.ts';
import { type Json, type JsonObject, type Pdu } from '../pdu.ts';
import { type RoomVersionRules } from '../room-versions.ts';
import { isJsonObject } from '../json/strict-json.ts';

/** A bigint only where a level of room versions 1 to 9 leaves the range in which numbers are exact. */
export type Level = number | bigint;

/** What version 12 gives creators: above every level an event can state, which end at 2⁵³ − 1 there. Synapse's figure. */
export const CREATOR_LEVEL: Level = 2 ** 53;

// The string form of old rooms: spaces around, a sign, leading zeros. Python, which set the precedent, takes underscores
// between digits and the decimal digits of any script, and refuses more than 4300 digits.
const STRING_LEVEL = /^[\s\u001c-\u001f\u0085]*([+-]?)(\p{Nd}+(?:_\p{Nd}+)*)[\s\u001c-\u001f\u0085]*$/u;
const STRING_LEVEL_DIGITS_MAX = 4300;
const DECIMAL_DIGIT = /^\p{Nd}$/u;

function parseStringLevel(text: string): Level | undefined {
  const match = STRING_LEVEL.exec(text);
  if (match === null || text.includes('\ufeff')) return undefined;
  const digits = (match[2] ?? '').replaceAll('_', '').replaceAll(/\P{ASCII}/gu, asciiDigit);
  if (digits.length > STRING_LEVEL_DIGITS_MAX) return undefined;
  const magnitude = BigInt(digits);
  const level = match[1] === '-' ? -magnitude : magnitude;
  return Number.isSafeInteger(Number(level)) ? Number(level) : level;
}

/** Unicode lays out the decimal digits of a script in runs of ten, from zero to nine; runs may adjoin. */
function asciiDigit(digit: string): string {
  const codePoint = digit.codePointAt(0) ?? 0;
  let before = 0;
  while (DECIMAL_DIGIT.test(String.fromCodePoint(codePoint - before - 1))) before++;
  return String(before % 10);
}

/**
 * The level a value stands for in the versions before `integerPowerLevels`, which is also how stored events are read in
 * every version. Synapse goes beyond the spec's strings: it truncates floats and counts booleans as 0 and 1.
 */
function parseLevel(value: Json | undefined): Level | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? integerOf(value) : undefined;
  if (typeof value === 'string') return parseStringLevel(value);
  if (typeof value === 'boolean') return value ? 1 : 0;
  return undefined;
}

function integerOf(value: number): Level {
  const integer = Math.trunc(value);
  return Number.isSafeInteger(integer) ? integer : BigInt(integer);
}

/**
 * The level that an object states at `name`, its own; `undefined` when it is no level. Integers beyond the
 * safe range, which versions 1 to 5 let pass, are read to their last digit.
 */
export function levelAt(levels: JsonObject, name: string): Level | undefined {
  const spelling = (levels as SpelledNumbers)[NUMBER_SPELLINGS]?.get(name);
  return (spelling === undefined ? undefined : parseStringLevel(spelling)) ?? parseLevel(ownValue(levels, name));
}

/** `a ≥ b`; false when either cannot be read. */
export function atLeast(a: Level | undefined, b: Level | undefined): boolean {
  return a !== undefined && b !== undefined && a >= b;
}

/** `a > b`; false when either cannot be read. */
export function above(a: Level | undefined, b: Level | undefined): boolean {
  return a !== undefined && b !== undefined && a > b;
}

/** What is read of m.room.create. */
type Create = Pick<Pdu, 'sender' | 'content'>;

/** The room's creator: the sender of m.room.create, or its `content.creator` before version 11. */
export function creatorOf(create: Create, rules: RoomVersionRules): string | undefined {
  return rules.creatorIsSender ? create.sender : ownString(create.content, 'creator');
}

/**
 * Version 12: whether a user is the sender of m.room.create or among its `additional_creators`. `undefined` when these
 * cannot be read. Rule 1 wants an array of user ids; Synapse, when it looks a user up, also takes strings and the keys of
 * objects for a collection.
 */
export function isPrivilegedCreator(create: Create, userId: string, rules: RoomVersionRules): boolean | undefined {
  if (!rules.privilegedCreators) return false;
  if (create.sender === userId || !Object.hasOwn(create.content, 'additional_creators')) {
    return create.sender === userId;
  }
  const additional = ownValue(create.content, 'additional_creators');
  if (typeof additional === 'string') return false;
  if (isJsonObject(additional)) return Object.hasOwn(additional, userId);
  if (!Array.isArray(additional) || additional.some((id) => typeof id === 'object' && id !== null)) return undefined;
  return additional.includes(userId);
}

function isStated(levels: JsonObject, name: string): boolean {
  return (ownValue(levels, name) ?? null) !== null;
}

/**
 * The level of a user by one m.room.power_levels event, without regard to creators: `users`, then `users_default`, then 0;
 * a null counts as absent.
 */
export function statedUserLevel(powerLevels: JsonObject, userId: string): Level | undefined {
  const users = Object.hasOwn(powerLevels, 'users') ? ownValue(powerLevels, 'users') : {};
  if (!isJsonObject(users)) return undefined;
  if (isStated(users, userId)) return levelAt(users, userId);
  return isStated(powerLevels, 'users_default') ? levelAt(powerLevels, 'users_default') : 0;
}

/** The powers that hold in a state. */
export interface PowerLevels {
  ofUser(userId: string): Level | undefined;
  /** The level an action asks for. */
  toDo(action: 'invite' | 'kick' | 'ban' | 'redact'): Level | undefined;
  /** The level that sending an event of this type asks for. */
  toSend(type: string, isState: boolean): Level | undefined;
}

const ACTION_DEFAULTS = { invite: 0, kick: 50, ban: 50, redact: 50 } as const;
const STATE_DEFAULT = 50;
const EVENTS_DEFAULT = 0;
/** What the creator has while the room has no m.room.power_levels. */
const CREATOR_DEFAULT = 100;

/** Reads the powers from the state an event is judged against. */
export function powerLevelsOf(
  create: Create,
  state: (type: string, stateKey: string) => Pick<Pdu, 'content'> | undefined,
  rules: RoomVersionRules,
): PowerLevels {
  const content = state('m.room.power_levels', '')?.content;
  return {
    ofUser(userId) {
      const isCreator = isPrivilegedCreator(create, userId, rules);
      if (isCreator !== false) return isCreator && CREATOR_LEVEL;
      if (content !== undefined) return statedUserLevel(content, userId);
      if (!rules.creatorIsSender && !Object.hasOwn(create.content, 'creator')) return undefined;
      return creatorOf(create, rules) === userId ? CREATOR_DEFAULT : 0;
    },
    toDo(action) {
      return content !== undefined && isStated(content, action) ? levelAt(content, action) : ACTION_DEFAULTS[action];
    },
    toSend(type, isState) {
      // The spec gives `state_default` 0 while there is no m.room.power_levels; Synapse gives 50, and so do we.
      if (content === undefined) return isState ? STATE_DEFAULT : EVENTS_DEFAULT;
      const events = Object.hasOwn(content, 'events') ? ownValue(content, 'events') : {};
      if (!isJsonObject(events)) return undefined;
      if (isStated(events, type)) return levelAt(events, type);
      // Unlike the other defaults, a null here is no level (as in Synapse).
      const name = isState ? 'state_default' : 'events_default';
      if (Object.hasOwn(content, name)) return levelAt(content, name);
      return isState ? STATE_DEFAULT : EVENTS_DEFAULT;
    },
  };
}
