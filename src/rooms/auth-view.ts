/**
 * What auth rules read of an event, and nothing more: a state of a big room is judged in memory, and has hundreds of
 * thousands of events of which all but a few are plain memberships.
 */
import { type EventId, type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { parseStored } from './load-pdus.ts';

/** The columns of a checked or stored event that a view is made of. */
export interface ViewedEvent {
  readonly eventId: EventId;
  readonly json: string;
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

/** Makes views that share what repeats: types, memberships, and the lists of auth events that thousands of joins cite alike. */
export interface AuthViews {
  view(event: ViewedEvent): Pdu;
  /** Characters of events that had to be kept whole. */
  wholeCharacters(): number;
}

export function createAuthViews(roomId: RoomId, rules: RoomVersionRules): AuthViews {
  const lists = new Map<string, readonly EventId[]>();
  const contents = new Map<string, JsonObject>();
  const types = new Map<string, string>();
  let wholeCharacters = 0;

  const shareList = (ids: readonly EventId[]): readonly EventId[] => {
    const name = ids.join(' ');
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
  const isReadWhole = ({ type, json, membership }: ViewedEvent): boolean =>
    READ_WHOLE.has(type) ||
    // A name written with escapes is not found so; then there is a backslash.
    (type === 'm.room.member' &&
      (membership === null || MEMBER_KEYS.some((key) => json.includes(key)) || json.includes('\\u')));

  return {
    view(event) {
      const { eventId, type, sender, stateKey, prevEvents } = event;
      if (isReadWhole(event)) {
        wholeCharacters += event.json.length;
        return parseStored(event.json, rules, eventId);
      }
      return {
        eventId,
        roomId,
        type: shareType(type),
        stateKey: stateKey === null ? undefined : stateKey === sender ? sender : stateKey,
        sender,
        content: type === 'm.room.member' ? contentOf(event.membership) : NOTHING,
        prevEvents,
        authEvents: shareList(event.authEvents),
        depth: 0,
        originServerTs: 0,
        json: NOTHING,
      };
    },
    wholeCharacters: () => wholeCharacters,
  };
}
