/**
 * Rule 9 of the auth rules: m.room.power_levels. What it says must be well formed, and nobody gives, takes or changes a
 * level above their own.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v11/#authorization-rules
 */
import { type AuthSituation } from './auth-rules-membership.ts';
import { ALLOWED, type AuthVerdict } from './auth-verdict.ts';
import { refuse } from '../refusal.ts';
import { ownValue } from '../content.ts';
import { type JsonObject, type Pdu } from '../pdu.ts';
import { type Level, above, isPrivilegedCreator, levelAt } from './power-levels.ts';
import { isJsonObject } from '../json/strict-json.ts';

const LEVELS = ['users_default', 'events_default', 'state_default', 'ban', 'redact', 'kick', 'invite'] as const;
const LEVEL_MAPS = ['users', 'events', 'notifications'] as const;

/** The rule for m.room.power_levels. */
export function authorisePowerLevels(event: Pdu, situation: AuthSituation): AuthVerdict {
  const { create, powers, state, rules } = situation;
  const next = event.content;

  const malformed = malformation(next, rules.integerPowerLevels);
  if (malformed !== undefined) return refuse('power-levels-malformed', malformed);

  // Version 12, 9.4. `users` names a creator.
  if (rules.privilegedCreators) {
    const users = Object.keys(entriesOf(next, 'users') ?? {});
    const named = users.find((id) => isPrivilegedCreator(create, id, rules) === true);
    if (named !== undefined) return refuse('power-levels-name-creator', `users names the creator ${named}.`);
    // Rule 1 lets no such m.room.create in; of those that cannot be read Synapse passes over null, false and 0 here.
    if (isPrivilegedCreator(create, '', rules) === undefined && Boolean(create.content['additional_creators'])) {
      return refuse('power-levels-name-creator', 'The additional creators cannot be read.');
    }
  }

  // A message event of this type: Synapse fails on it, so no room has one.
  if (event.stateKey === undefined) return refuse('power-levels-malformed', 'm.room.power_levels is no state event.');
  // Synapse looks for a predecessor at the event's own state key, and the state around an event holds only the empty one.
  const current = event.stateKey === '' ? state('m.room.power_levels', '')?.content : undefined;
  // 9.4. No previous m.room.power_levels: allow.
  if (current === undefined) return ALLOWED;

  const sender = powers.ofUser(event.sender);
  const maps = LEVEL_MAPS.filter((name) => name !== 'notifications' || rules.notificationsPowerLevelsChecked);
  // 9.5. The levels that stand by themselves.
  const changes = changesBetween(current, next, LEVELS);
  // 9.6, 9.7, 9.9. Those of users, event types and notifications.
  for (const name of maps) {
    const before = entriesOf(current, name);
    const after = entriesOf(next, name);
    if (before === undefined || after === undefined) {
      return refuse('power-levels-malformed', `${name} is not an object of levels.`);
    }
    const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
    for (const change of changesBetween(before, after, keys)) {
      // 9.8. The level of another user who stands as high as the sender.
      if (name === 'users' && change.name !== event.sender && change.before !== undefined && change.before === sender) {
        return refuse('power-levels-lower-equal', `${change.name} has as much power as ${event.sender}.`);
      }
      changes.push(change);
    }
  }
  for (const { name, before, after, isReadable } of changes) {
    if (!isReadable || sender === undefined) return refuse('power-levels-malformed', `${name} is not a power level.`);
    // 9.5.1, 9.6, 9.8. The current level is above the sender's. 9.5.2, 9.7, 9.9. The new one is.
    if (above(before, sender) || above(after, sender)) {
      return refuse('power-levels-exceed', `${event.sender} lacks the power to change ${name}.`);
    }
  }
  // 9.10. Otherwise, allow.
  return ALLOWED;
}

/** 9.1 to 9.3: what is wrong with the form of the content, if anything. */
function malformation(content: JsonObject, integersOnly: boolean): string | undefined {
  // 9.3. `users` maps user ids to levels. Synapse asks of an id only the sigil and a colon.
  const users = Object.hasOwn(content, 'users') ? ownValue(content, 'users') : {};
  if (!isJsonObject(users)) return 'users is not an object.';
  for (const userId of Object.keys(users)) {
    if (!userId.startsWith('@') || !userId.includes(':')) return `users names ${userId}, which is not a user id.`;
    if (levelAt(users, userId) === undefined) return `The level of ${userId} is not a power level.`;
  }
  // Versions 1 to 9 say nothing more: strings are read as levels, and the rest is only looked at where it is compared.
  if (!integersOnly) return undefined;
  // 9.1. The levels that stand by themselves are integers.
  for (const name of LEVELS) {
    if (Object.hasOwn(content, name) && !Number.isInteger(content[name])) return `${name} is not an integer.`;
  }
  // 9.2, 9.3. The others are objects of integers.
  for (const name of LEVEL_MAPS) {
    if (!Object.hasOwn(content, name)) continue;
    const map = ownValue(content, name);
    if (!isJsonObject(map) || !Object.values(map).every((level) => Number.isInteger(level))) {
      return `${name} is not an object of integers.`;
    }
  }
  return undefined;
}

/** An object of levels, absent being empty. Synapse walks an empty array or string like an empty object. */
function entriesOf(content: JsonObject, name: string): JsonObject | undefined {
  if (!Object.hasOwn(content, name)) return {};
  const value = ownValue(content, name);
  if (value === '' || (Array.isArray(value) && value.length === 0)) return {};
  return isJsonObject(value) ? value : undefined;
}

interface LevelChange {
  readonly name: string;
  /** `undefined`: not stated. */
  readonly before: Level | undefined;
  readonly after: Level | undefined;
  /** False when one is stated and is no level. */
  readonly isReadable: boolean;
}

/** The levels that are added, changed or removed; those that read the same (such as 5 and "5") are left out. */
function changesBetween(before: JsonObject, after: JsonObject, names: Iterable<string>): LevelChange[] {
  const changes: LevelChange[] = [];
  for (const name of names) {
    const old = statedLevel(before, name);
    const fresh = statedLevel(after, name);
    const isReadable = old.isReadable && fresh.isReadable;
    if (isReadable && old.level === fresh.level) continue;
    changes.push({ name, before: old.level, after: fresh.level, isReadable });
  }
  return changes;
}

function statedLevel(levels: JsonObject, name: string): { level: Level | undefined; isReadable: boolean } {
  if (!Object.hasOwn(levels, name)) return { level: undefined, isReadable: true };
  const level = levelAt(levels, name);
  return { level, isReadable: level !== undefined };
}
