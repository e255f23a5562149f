/**
 * Filters of a sync, read strictly, and what they let pass.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#filtering
 */
import { isJsonObject } from '../json/strict-json.ts';
import { type Json, type JsonObject } from '../pdu.ts';
import { type Refusal, refuse } from '../refusal.ts';

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

/** Whatever was said. */
export const ANY_EVENT: EventFilter = {
  ...{ types: null, notTypes: [], senders: null, notSenders: [], rooms: null, notRooms: new Set<string>() },
  containsUrl: null,
};

export interface SyncFilter {
  readonly rooms: Pick<EventFilter, 'rooms' | 'notRooms'>;
  readonly includeLeave: boolean;
  /** `countsThreads`: what is unread is counted by thread. */
  readonly timeline: EventFilter & { readonly limit: number; readonly countsThreads: boolean };
  readonly state: EventFilter & { readonly lazyLoadMembers: boolean; readonly includeRedundantMembers: boolean };
  readonly accountData: EventFilter;
  readonly roomAccountData: EventFilter;
  readonly ephemeral: EventFilter;
  readonly presence: EventFilter;
}

/** Events of a room's timeline in one response. */
const LIMIT_DEFAULT = 10;
const LIMIT_MAX = 100;

/** What a member has to be where it is given; `null` stands for what is left out, as clients write it. */
type Shape = 'boolean' | 'count' | 'fields' | 'texts' | 'format' | { readonly [member: string]: Shape };

const EVENTS: Shape = {
  ...{ limit: 'count', types: 'texts', not_types: 'texts', senders: 'texts', not_senders: 'texts' },
  ...{ rooms: 'texts', not_rooms: 'texts', contains_url: 'boolean' },
  ...{ lazy_load_members: 'boolean', include_redundant_members: 'boolean', unread_thread_notifications: 'boolean' },
};
const FILTER: Shape = {
  event_fields: 'fields',
  event_format: 'format',
  presence: EVENTS,
  account_data: EVENTS,
  room: {
    ...{ rooms: 'texts', not_rooms: 'texts', include_leave: 'boolean' },
    ...{ ephemeral: EVENTS, state: EVENTS, timeline: EVENTS, account_data: EVENTS },
  },
};

/** Reads a filter. Refused where a member has another type than the specification says; the reason names it. */
export function parseFilter(filter: JsonObject): { readonly ok: true; readonly filter: SyncFilter } | Refusal {
  const objection = objectionTo(filter, FILTER, 'filter');
  if (objection !== undefined) return refuse('filter.type', objection);
  const room = objectIn(filter, 'room');
  const [state, timeline] = [objectIn(room, 'state'), objectIn(room, 'timeline')];
  return {
    ok: true,
    filter: {
      rooms: eventFilter(room),
      includeLeave: valueIn(room, 'include_leave') === true,
      timeline: {
        ...eventFilter(timeline),
        limit: Math.min(Number(valueIn(timeline, 'limit') ?? LIMIT_DEFAULT), LIMIT_MAX),
        countsThreads: valueIn(timeline, 'unread_thread_notifications') === true,
      },
      state: {
        ...eventFilter(state),
        lazyLoadMembers: valueIn(state, 'lazy_load_members') === true,
        includeRedundantMembers: valueIn(state, 'include_redundant_members') === true,
      },
      accountData: eventFilter(objectIn(filter, 'account_data')),
      roomAccountData: eventFilter(objectIn(room, 'account_data')),
      ephemeral: eventFilter(objectIn(room, 'ephemeral')),
      presence: eventFilter(objectIn(filter, 'presence')),
    },
  };
}

/** Why a value has not the shape; `undefined`: it has. */
function objectionTo(value: Json, shape: Shape, name: string): string | undefined {
  switch (shape) {
    case 'boolean':
      return typeof value === 'boolean' ? undefined : `${name}: expected true or false`;
    case 'count':
      return Number.isInteger(value) && Number(value) >= 0 ? undefined : `${name}: expected a count`;
    case 'fields':
    case 'texts': {
      // Types and names of rooms and users are looked up, and no database is asked for a NUL.
      const isText = (item: Json): boolean => typeof item === 'string' && (shape === 'fields' || !item.includes('\0'));
      const areTexts = Array.isArray(value) && (value as readonly Json[]).every(isText);
      return areTexts ? undefined : `${name}: expected a list of texts`;
    }
    case 'format':
      return value === 'client' || value === 'federation' ? undefined : `${name}: expected client or federation`;
    default: {
      if (!isJsonObject(value)) return `${name}: expected an object`;
      for (const [member, ofMember] of Object.entries(shape)) {
        const given = valueIn(value, member);
        const objection = given === undefined ? undefined : objectionTo(given, ofMember, `${name}.${member}`);
        if (objection !== undefined) return objection;
      }
      return undefined;
    }
  }
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

/** Of what has the shape. */
function eventFilter(filter: JsonObject): EventFilter {
  const textsIn = (member: string): readonly string[] | undefined =>
    valueIn(filter, member) as readonly string[] | undefined;
  const rooms = textsIn('rooms');
  return {
    types: textsIn('types') ?? null,
    notTypes: textsIn('not_types') ?? [],
    senders: textsIn('senders') ?? null,
    notSenders: textsIn('not_senders') ?? [],
    rooms: rooms === undefined ? null : new Set(rooms),
    notRooms: new Set(textsIn('not_rooms') ?? []),
    containsUrl: (valueIn(filter, 'contains_url') as boolean | undefined) ?? null,
  };
}

function objectIn(parent: JsonObject, member: string): JsonObject {
  return (valueIn(parent, member) as JsonObject | undefined) ?? {};
}

function valueIn(parent: JsonObject, member: string): Json | undefined {
  return Object.hasOwn(parent, member) ? (parent[member] ?? undefined) : undefined;
}
