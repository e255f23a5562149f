/**
 * The timelines of a response: what of them the user may see, and each event as he sees it, with what this server says of it:
 * how old it is, what it has replaced, and what he was in the room then.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-event-format
 */
import { clientEvent } from '../matrix/client/client-event.ts';
import { type SeenFrom, historyVisibility, maySee } from '../matrix/client/history-visibility.ts';
import { type EventId, type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { type RedactedBody } from '../store/events/redactions.ts';
import { type NumberedBody, type ShownPdu, readNumbered, readNumberedUpTo } from '../store/journal/seen-by-clients.ts';
import { type Transaction } from '../store/open-store.ts';
import { type StateRead, readStates } from '../store/snapshots/many-snapshots.ts';
import { type TrieKey } from '../store/snapshots/snapshot-trie.ts';
import { readStateKeys } from '../store/snapshots/state-keys.ts';
import { TIMELINE_BYTES } from './read-rooms.ts';
import { type RoomSpan } from './read-spans.ts';

/** Events that were taken back, as far as they are shown. */
type Redacted = ReadonlyMap<EventId, RedactedBody>;

const MEMBER = 'm.room.member';
const VISIBILITY = 'm.room.history_visibility';

/** An event that the user may see. */
export interface SeenPdu extends ShownPdu {
  /** The state event that it replaced; `null`: none, or it is no state event. */
  readonly replaced: NumberedBody | null;
  /** Of the user, in the state after it. */
  readonly membership: string | null;
}

/** What of the timelines the user may see. */
export async function readVisible(
  tx: Transaction,
  spans: readonly RoomSpan[],
  timelines: ReadonlyMap<RoomId, readonly ShownPdu[]>,
  userId: UserId,
): Promise<ReadonlyMap<RoomId, readonly SeenPdu[]>> {
  const keys = await readStateKeys(tx, [
    { type: MEMBER, stateKey: userId },
    { type: VISIBILITY, stateKey: '' },
  ]);
  const own = keys.get(stateMapKey(MEMBER, userId));
  const visibility = keys.get(stateMapKey(VISIBILITY, ''));
  const reads: StateRead[] = [];
  const events = spans.flatMap((span) => {
    // Who has been in the room all the time may see all of it.
    const isSeen = !span.isNew && span.room.membership === 'join' && span.room.state === span.room.stateThen;
    return (timelines.get(span.roomId) ?? []).map((pdu) => {
      const around = new Set([...(isSeen ? [] : [own, visibility])].filter((key) => key !== undefined));
      const { roomId, stateBefore, stateAfter, key } = pdu;
      const before = new Set(key === null ? around : [...around, key]);
      const first = reads.length;
      if (before.size > 0) reads.push({ roomId, state: stateBefore, selection: { keys: before } });
      if (around.size > 0) reads.push({ roomId, state: stateAfter, selection: { keys: around } });
      return {
        span,
        pdu,
        isSeen,
        before: before.size > 0 ? first : null,
        after: around.size > 0 ? reads.length - 1 : null,
      };
    });
  });
  const places = await readStates(tx, reads);
  const found = places.flatMap((ofState) => [...ofState]);
  const decisive = new Set(found.flatMap(([key, nid]) => (key === own || key === visibility ? [nid] : [])));
  const replaced = new Set(found.flatMap(([, nid]) => (decisive.has(nid) ? [] : [nid])));
  const bodies = new Map([
    ...(await readNumbered(tx, decisive)),
    // Where they are long, what events replaced is not told of all of them.
    ...(await readNumberedUpTo(tx, [...replaced], TIMELINE_BYTES)),
  ]);
  const bodyAt = (read: number | null, key: TrieKey | null | undefined): NumberedBody | null => {
    const nid = read === null || key == null ? undefined : places[read]?.get(key);
    return nid === undefined ? null : (bodies.get(nid) ?? null);
  };
  const seen = new Map<RoomId, SeenPdu[]>();
  for (const { span, pdu, isSeen, before, after } of events) {
    const seenFrom = (read: number | null): SeenFrom => ({
      visibility: historyVisibility(contentOf(bodyAt(read, visibility))['history_visibility']),
      membership: bodyAt(read, own)?.membership ?? null,
    });
    const joinedSince = span.room.membership === 'join' || span.membershipThen === 'join';
    const isOwn = pdu.key !== null && pdu.key === own;
    if (!isSeen && !isOwn && maySee([seenFrom(before), seenFrom(after)], joinedSince) !== true) continue;
    const ofRoom = seen.get(pdu.roomId) ?? [];
    seen.set(pdu.roomId, ofRoom);
    ofRoom.push({
      ...pdu,
      replaced: bodyAt(before, pdu.key),
      membership: isSeen ? 'join' : (bodyAt(after, own)?.membership ?? null),
    });
  }
  return seen;
}

/** An event of a timeline in the form of clients. `now`: milliseconds since the Unix epoch. */
export function timelineEvent(
  { eventId, roomId, json, replaced, membership }: SeenPdu,
  now: number,
  { transactionId, redacted }: { readonly transactionId: string | undefined; readonly redacted: Redacted },
): JsonObject {
  const taken = redacted.get(eventId);
  const pdu = JSON.parse(taken?.json ?? json) as JsonObject;
  const at = pdu['origin_server_ts'];
  const unsigned: JsonObject = {
    ...(typeof at === 'number' ? { age: Math.max(0, now - at) } : {}),
    membership: membership ?? 'leave',
    ...(replaced === null || replaced.eventId === eventId ? {} : replacedBy(replaced, redacted)),
    ...(transactionId === undefined ? {} : { transaction_id: transactionId }),
    ...(taken === undefined ? {} : { redacted_because: taken.because }),
  };
  return clientEvent(pdu, { eventId, roomId, unsigned });
}

function replacedBy(replaced: NumberedBody, redacted: Redacted): JsonObject {
  const { content, sender } = JSON.parse(redacted.get(replaced.eventId)?.json ?? replaced.json) as JsonObject;
  return { prev_content: content ?? {}, replaces_state: replaced.eventId, prev_sender: sender ?? '' };
}

/** A state event in the form of clients. */
export function stateEvent(
  { eventId, json }: { readonly eventId: EventId; readonly json: string },
  roomId: RoomId,
  redacted: Redacted = new Map(),
): JsonObject {
  const taken = redacted.get(eventId);
  const unsigned = taken === undefined ? {} : { unsigned: { redacted_because: taken.because } };
  return clientEvent(JSON.parse(taken?.json ?? json) as JsonObject, { eventId, roomId, ...unsigned });
}

function contentOf(body: NumberedBody | null): JsonObject {
  return body === null ? {} : ((JSON.parse(body.json) as { content?: JsonObject }).content ?? {});
}
