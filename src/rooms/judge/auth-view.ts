/**
 * What auth rules read of an event, and nothing more: a state of a big room is judged in memory, and has hundreds of
 * thousands of events of which all but a few are plain memberships.
 */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Json, type JsonObject, type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { parseStored } from './load-pdus.ts';

/** The columns of a checked or stored event that a view is made of. */
export interface ViewedEvent {
  readonly eventId: EventId;
  /** As text, or as its bytes in UTF-8. */
  readonly json: string | Uint8Array;
  readonly type: string;
  readonly stateKey: string | null;
  readonly sender: UserId;
  readonly membership: string | null;
  readonly prevEvents: readonly EventId[];
  readonly authEvents: readonly EventId[];
}

/** Events whose content the rules read beyond a membership, or that have a rule of their own. */
const READ_WHOLE: ReadonlySet<string> = new Set([
  'm.room.create',
  'm.room.power_levels',
  'm.room.join_rules',
  'm.room.third_party_invite',
  'm.room.redaction',
]);
/** What the rules read of a member event beside its membership: in a restricted room nearly every join has the second. */
const INVITE_KEY = 'third_party_invite';
const AUTHORISER_KEY = 'join_authorised_via_users_server';
const NOTHING: JsonObject = {};
const NONE: readonly EventId[] = [];

/** Makes views that share what repeats: types and memberships. */
export interface AuthViews {
  view(event: ViewedEvent): AuthView;
  /** Characters of events that had to be kept whole, and of single strings that were kept of others. */
  wholeCharacters(): number;
}

export interface AuthView {
  readonly pdu: Pdu;
  /** It is all of the event, since the rules read more of it than columns. */
  readonly isWhole: boolean;
}

/** Views of one room's events; what they share lives as long as they. */
export function createAuthViews(roomId: RoomId, rules: RoomVersionRules): AuthViews {
  const contents = new Map<string, JsonObject>();
  const types = new Map<string, string>();
  let wholeCharacters = 0;

  const contentOf = (membership: string | null, authoriser: Json | undefined): JsonObject => {
    if (membership === null) return NOTHING;
    const key = JSON.stringify(authoriser === undefined ? [membership] : [membership, authoriser]);
    const known = contents.get(key);
    if (known !== undefined) return known;
    const content: JsonObject = { membership, ...(authoriser === undefined ? {} : { [AUTHORISER_KEY]: authoriser }) };
    contents.set(key, content);
    wholeCharacters += authoriser === undefined ? 0 : key.length;
    return content;
  };
  const shareType = (type: string): string => {
    const known = types.get(type);
    if (known === undefined) types.set(type, type);
    return known ?? type;
  };
  /** What the rules may read beyond the columns: all of it, the one string that names who let a member in, or nothing. */
  const readingOf = ({ type, json, membership, eventId }: ViewedEvent): 'whole' | { readonly authoriser?: Json } => {
    if (READ_WHOLE.has(type)) return 'whole';
    if (type !== 'm.room.member') return {};
    if (membership === null) return 'whole';
    const text = typeof json === 'string' ? json : Buffer.from(json.buffer, json.byteOffset, json.byteLength);
    // A name written with escapes is not found so; then there is a backslash.
    const isEscaped = text.includes('\\u');
    if (!isEscaped && !text.includes(INVITE_KEY) && !text.includes(AUTHORISER_KEY)) return {};
    const { content } = parseStored(textOf(json), rules, eventId);
    if (content[INVITE_KEY] !== undefined) return 'whole';
    const authoriser = content[AUTHORISER_KEY];
    return authoriser === undefined ? {} : { authoriser };
  };
  /** The rules ask of it only whether it is m.room.create alone, which is among the auth events then. */
  const parentsOf = ({ prevEvents: [parent, ...others], authEvents }: ViewedEvent): readonly EventId[] => {
    if (parent === undefined || others.length > 0) return NONE;
    return authEvents.includes(parent) || parent.slice(1) === roomId.slice(1) ? [parent] : NONE;
  };

  return {
    view(event) {
      const { eventId, type, sender, stateKey } = event;
      const reading = readingOf(event);
      if (reading === 'whole') {
        const json = textOf(event.json);
        wholeCharacters += json.length;
        return { pdu: parseStored(json, rules, eventId), isWhole: true };
      }
      const pdu: Pdu = {
        eventId,
        roomId,
        type: shareType(type),
        stateKey: stateKey === null ? undefined : stateKey === sender ? sender : stateKey,
        sender,
        content: type === 'm.room.member' ? contentOf(event.membership, reading.authoriser) : NOTHING,
        prevEvents: parentsOf(event),
        authEvents: event.authEvents,
        depth: 0n,
        originServerTs: 0,
        json: NOTHING,
      };
      return { pdu, isWhole: false };
    },
    wholeCharacters: () => wholeCharacters,
  };
}

function textOf(json: string | Uint8Array): string {
  return typeof json === 'string' ? json : Buffer.from(json).toString();
}
