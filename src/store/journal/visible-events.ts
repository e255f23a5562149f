/** What of the events of timelines a user may see, by the states around each; a few statements for all of them. */
import { type SeenFrom, historyVisibility, maySee } from '../../matrix/client/history-visibility.ts';
import { type EventId, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type Sql } from '../open-store.ts';
import { type StateRead, readStates } from '../snapshots/many-snapshots.ts';
import { type TrieKey } from '../snapshots/snapshot-trie.ts';
import { readStateKeys } from '../snapshots/state-keys.ts';
import { type NumberedBody, type ShownPdu, readNumbered, readNumberedUpTo } from './seen-by-clients.ts';

const MEMBER = 'm.room.member';
const VISIBILITY = 'm.room.history_visibility';

/** An event that the user may see. */
export interface SeenPdu extends ShownPdu {
  /** The state event that it replaced; `null`: none, or it is no state event. */
  readonly replaced: NumberedBody | null;
  /** Of the user, in the state after it. */
  readonly membership: string | null;
}

/** An event, and what is known of the user without looking at the states around it. */
export interface AskedEvent {
  readonly pdu: ShownPdu;
  /** He may see it, whatever they say. */
  readonly isSeen?: boolean;
  /** Whether he was joined at any time after it. */
  readonly joinedSince: boolean;
  /** The states lack memberships: that he was invited before we came is not known. */
  readonly isPartial?: boolean;
}

export interface VisibleEvents {
  /** In the order in which they were asked for. */
  readonly seen: readonly SeenPdu[];
  /** Where a membership that is not known decides. */
  readonly unknown: readonly EventId[];
}

/** `bytesMax`: of what events replaced; where that is longer it is not told of all of them. */
export async function readVisibleEvents(
  sql: Sql,
  asked: readonly AskedEvent[],
  userId: UserId,
  bytesMax: number,
): Promise<VisibleEvents> {
  const keys = await readStateKeys(sql, [
    { type: MEMBER, stateKey: userId },
    { type: VISIBILITY, stateKey: '' },
  ]);
  const own = keys.get(stateMapKey(MEMBER, userId));
  const visibility = keys.get(stateMapKey(VISIBILITY, ''));
  const reads: StateRead[] = [];
  const events = asked.map((one) => {
    const { roomId, stateBefore, stateAfter, key } = one.pdu;
    const around = new Set([...(one.isSeen === true ? [] : [own, visibility])].filter((at) => at !== undefined));
    const before = new Set(key === null ? around : [...around, key]);
    const first = reads.length;
    if (before.size > 0) reads.push({ roomId, state: stateBefore, selection: { keys: before } });
    if (around.size > 0) reads.push({ roomId, state: stateAfter, selection: { keys: around } });
    return { one, before: before.size > 0 ? first : null, after: around.size > 0 ? reads.length - 1 : null };
  });
  const places = await readStates(sql, reads);
  const found = places.flatMap((ofState) => [...ofState]);
  const decisive = new Set(found.flatMap(([key, nid]) => (key === own || key === visibility ? [nid] : [])));
  const replaced = new Set(found.flatMap(([, nid]) => (decisive.has(nid) ? [] : [nid])));
  const bodies = new Map([
    ...(await readNumbered(sql, decisive)),
    ...(await readNumberedUpTo(sql, [...replaced], bytesMax)),
  ]);
  const bodyAt = (read: number | null, key: TrieKey | null | undefined): NumberedBody | null => {
    const nid = read === null || key == null ? undefined : places[read]?.get(key);
    return nid === undefined ? null : (bodies.get(nid) ?? null);
  };
  const seen: SeenPdu[] = [];
  const unknown: EventId[] = [];
  for (const { one, before, after } of events) {
    const { pdu, isSeen = false, joinedSince, isPartial = false } = one;
    const seenFrom = (read: number | null): SeenFrom => {
      const said = historyVisibility(contentOf(bodyAt(read, visibility))['history_visibility']);
      const body = bodyAt(read, own);
      const isUnknown = body === null && isPartial && said === 'invited';
      return { visibility: said, membership: isUnknown ? undefined : (body?.membership ?? null) };
    };
    const isOwn = pdu.key !== null && pdu.key === own;
    const verdict = isSeen || isOwn || maySee([seenFrom(before), seenFrom(after)], joinedSince);
    if (verdict === undefined) unknown.push(pdu.eventId);
    if (verdict !== true) continue;
    seen.push({
      ...pdu,
      replaced: bodyAt(before, pdu.key),
      membership: isSeen ? 'join' : (bodyAt(after, own)?.membership ?? null),
    });
  }
  return { seen, unknown };
}

function contentOf(body: NumberedBody | null): JsonObject {
  return body === null ? {} : ((JSON.parse(body.json) as { content?: JsonObject }).content ?? {});
}
