/**
 * What auth rules read of an event, and nothing more: a state of a big room is judged in memory, and has hundreds of
 * thousands of events of which all but a few are plain memberships.
 */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../matrix/pdu.ts';
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
/** What the rules read of a member event beside its membership. */
const MEMBER_KEYS = ['third_party_invite', 'join_authorised_via_users_server'];
const NOTHING: JsonObject = {};
const NONE: readonly EventId[] = [];

/** Makes views that share what repeats: types, memberships, and the lists of auth events that thousands of joins cite alike. */
export interface AuthViews {
  view(event: ViewedEvent): Pdu;
  /** Characters of events that had to be kept whole. */
  wholeCharacters(): number;
}

/** Views of one room's events; what they share lives as long as they. */
export function createAuthViews(roomId: RoomId, rules: RoomVersionRules): AuthViews {
  const lists = new Map<string, readonly EventId[]>();
  const contents = new Map<string, JsonObject>();
  const types = new Map<string, string>();
  let wholeCharacters = 0;

  const shareList = (ids: readonly EventId[]): readonly EventId[] => {
    // Ids of versions 1 and 2 may hold spaces.
    const name = ids.join('\n');
    const known = lists.get(name);
    if (known === undefined) lists.set(name, ids);
    return known ?? ids;
  };
  const contentOf = (membership: string | null): JsonObject => {
    if (membership === null) return NOTHING;
    const known = contents.get(membership);
    if (known !== undefined) return known;
    const content: JsonObject = { membership };
    contents.set(membership, content);
    return content;
  };
  const shareType = (type: string): string => {
    const known = types.get(type);
    if (known === undefined) types.set(type, type);
    return known ?? type;
  };
  const isReadWhole = ({ type, json, membership }: ViewedEvent): boolean => {
    if (READ_WHOLE.has(type)) return true;
    if (type !== 'm.room.member') return false;
    const text = typeof json === 'string' ? json : Buffer.from(json.buffer, json.byteOffset, json.byteLength);
    // A name written with escapes is not found so; then there is a backslash.
    return membership === null || MEMBER_KEYS.some((key) => text.includes(key)) || text.includes('\\u');
  };
  /** The rules ask of it only whether it is m.room.create alone, which is among the auth events then. */
  const parentsOf = ({ prevEvents: [parent, ...others], authEvents }: ViewedEvent): readonly EventId[] => {
    if (parent === undefined || others.length > 0) return NONE;
    return authEvents.includes(parent) || parent.slice(1) === roomId.slice(1) ? [parent] : NONE;
  };

  return {
    view(event) {
      const { eventId, type, sender, stateKey } = event;
      if (isReadWhole(event)) {
        const json = typeof event.json === 'string' ? event.json : Buffer.from(event.json).toString();
        wholeCharacters += json.length;
        return parseStored(json, rules, eventId);
      }
      return {
        eventId,
        roomId,
        type: shareType(type),
        stateKey: stateKey === null ? undefined : stateKey === sender ? sender : stateKey,
        sender,
        content: type === 'm.room.member' ? contentOf(event.membership) : NOTHING,
        prevEvents: parentsOf(event),
        authEvents: shareList(event.authEvents),
        depth: 0n,
        originServerTs: 0,
        json: NOTHING,
      };
    },
    wholeCharacters: () => wholeCharacters,
  };
}
