/**
 * Filters of a sync, read strictly, and what they let pass. What they may say and this server has nothing of (presence, ephemeral
 * events) is checked by nobody.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#filtering
 */
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { SyncError } from './error.ts';

export interface EventFilter {
  /** `*` stands for any characters; `null`: all. */
  readonly types: readonly string[] | null;
  readonly notTypes: readonly string[];
  readonly senders: readonly string[] | null;
  readonly notSenders: readonly string[];
  readonly rooms: ReadonlySet<string> | null;
  readonly notRooms: ReadonlySet<string>;
  /** Whether `content.url` is there; `null`: no matter. */
  readonly containsUrl: boolean | null;
}

export interface SyncFilter {
  readonly rooms: Pick<EventFilter, 'rooms' | 'notRooms'>;
  readonly includeLeave: boolean;
  readonly timeline: EventFilter & { readonly limit: number };
  readonly state: EventFilter & { readonly lazyLoadMembers: boolean; readonly includeRedundantMembers: boolean };
  readonly accountData: EventFilter;
  readonly roomAccountData: EventFilter;
}

/** Events of a room's timeline in one response. */
const LIMIT_DEFAULT = 10;
const LIMIT_MAX = 100;

/** Throws a `SyncError` where a member has another type than the specification says. */
export function parseFilter(filter: JsonObject): SyncFilter {
  const room = objectIn(filter, 'room');
  const state = objectIn(room, 'state');
  return {
    rooms: eventFilter(room),
    includeLeave: booleanIn(room, 'include_leave') ?? false,
    timeline: { ...eventFilter(objectIn(room, 'timeline')), limit: limitIn(objectIn(room, 'timeline')) },
    state: {
      ...eventFilter(state),
      lazyLoadMembers: booleanIn(state, 'lazy_load_members') ?? false,
      includeRedundantMembers: booleanIn(state, 'include_redundant_members') ?? false,
    },
    accountData: eventFilter(objectIn(filter, 'account_data')),
    roomAccountData: eventFilter(objectIn(room, 'account_data')),
  };
}

/** Whether a filter wants anything of a room. */
export function passesRoom({ rooms, notRooms }: Pick<EventFilter, 'rooms' | 'notRooms'>, roomId: string): boolean {
  return !notRooms.has(roomId) && (rooms?.has(roomId) ?? true);
}

/** Whether a filter lets events of a type pass. */
export function passesType({ types, notTypes }: Pick<EventFilter, 'types' | 'notTypes'>, type: string): boolean {
  const isOf = (pattern: string): boolean => matches(pattern, type);
  return !notTypes.some(isOf) && (types?.some(isOf) ?? true);
}

/** Whether a filter lets an event pass, as clients get it. */
export function passes(filter: EventFilter, { type, sender, content }: JsonObject): boolean {
  const { senders, notSenders, containsUrl } = filter;
  if (!passesType(filter, typeof type === 'string' ? type : '')) return false;
  const by = typeof sender === 'string' ? sender : '';
  if (notSenders.includes(by) || senders?.includes(by) === false) return false;
  return containsUrl === null || containsUrl === (isJsonObject(content) && typeof content['url'] === 'string');
}

/** A pattern of a filter for SQL's LIKE. */
export function likePattern(pattern: string): string {
  return pattern.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%');
}

/** Linear in both: the pieces between the stars are found one after the other. */
function matches(pattern: string, text: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return pattern === text;
  if (!text.startsWith(first) || !text.endsWith(last) || text.length < first.length + last.length) return false;
  let at = first.length;
  for (const piece of rest) {
    const found = text.indexOf(piece, at);
    if (found < 0 || found + piece.length > text.length - last.length) return false;
    at = found + piece.length;
  }
  return true;
}

function eventFilter(filter: JsonObject): EventFilter {
  const rooms = textsIn(filter, 'rooms');
  return {
    types: textsIn(filter, 'types') ?? null,
    notTypes: textsIn(filter, 'not_types') ?? [],
    senders: textsIn(filter, 'senders') ?? null,
    notSenders: textsIn(filter, 'not_senders') ?? [],
    rooms: rooms === undefined ? null : new Set(rooms),
    notRooms: new Set(textsIn(filter, 'not_rooms') ?? []),
    containsUrl: booleanIn(filter, 'contains_url') ?? null,
  };
}

function objectIn(parent: JsonObject, member: string): JsonObject {
  const value = valueIn(parent, member);
  if (value === undefined) return {};
  if (isJsonObject(value)) return value;
  throw new SyncError('invalid', `filter: ${member} is no object`);
}

function booleanIn(parent: JsonObject, member: string): boolean | undefined {
  const value = valueIn(parent, member);
  if (value === undefined || typeof value === 'boolean') return value;
  throw new SyncError('invalid', `filter: ${member} is neither true nor false`);
}

function textsIn(parent: JsonObject, member: string): readonly string[] | undefined {
  const value = valueIn(parent, member);
  if (value === undefined) return undefined;
  if (Array.isArray(value) && value.every((item) => typeof item === 'string' && !item.includes('\0'))) {
    return value as string[];
  }
  throw new SyncError('invalid', `filter: ${member} is no list of texts`);
}

function limitIn(parent: JsonObject): number {
  const value = valueIn(parent, 'limit') ?? LIMIT_DEFAULT;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) {
    throw new SyncError('invalid', 'filter: limit is no count');
  }
  return Math.min(value, LIMIT_MAX);
}

/** Clients write `null` for what they leave out. */
function valueIn(parent: JsonObject, member: string): Json | undefined {
  return Object.hasOwn(parent, member) ? (parent[member] ?? undefined) : undefined;
}
