/** The events that a verdict rests on, in words: who is what by the state that an event was judged by. */
import { ownString, ownValue } from '../../matrix/content.ts';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type Json } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type JournalEvent } from '../../resync/entries.ts';
import { readEntriesAbout } from '../../store/events/event-story.ts';
import { type StoredPdu, readPdus } from '../../store/events/pdus.ts';
import { type RecordedEntry } from '../../store/journal/journal-pages.ts';
import { type Sql } from '../../store/open-store.ts';
import { type Correction, type Turned, type Witness } from '../contract.ts';

const MEMBERSHIPS: Readonly<Record<string, string>> = {
  join: 'is joined',
  invite: 'is invited',
  leave: 'has left',
  ban: 'is banned',
  knock: 'knocks',
};

/** What a state event says about who is what; `subject`: the user whose right is in question. */
export function witnessOf({ eventId, type, stateKey, sender, json }: StoredPdu, subject: string): Witness {
  const content = ownContent(json);
  const says = (): string => {
    switch (type) {
      case 'm.room.create':
        return `${sender} created the room`;
      case 'm.room.member': {
        const membership = ownString(content, 'membership') ?? 'none';
        const what = MEMBERSHIPS[membership] ?? `has the membership ${membership}`;
        return membership === 'leave' && sender !== stateKey
          ? `${stateKey ?? ''} was removed by ${sender}`
          : `${stateKey ?? ''} ${what}`;
      }
      case 'm.room.power_levels': {
        const users = ownValue(content, 'users');
        const level =
          (isJsonObject(users) ? ownValue(users, subject) : undefined) ?? ownValue(content, 'users_default') ?? 0;
        return `${subject} has power level ${JSON.stringify(level)}`;
      }
      case 'm.room.join_rules':
        return `the join rule is ${ownString(content, 'join_rule') ?? 'none'}`;
      default:
        return `there is ${type}`;
    }
  };
  return { eventId, type, stateKey: stateKey ?? '', says: says() };
}

function ownContent(json: string): Record<string, Json> {
  const content = ownValue(JSON.parse(json) as Record<string, Json>, 'content');
  return isJsonObject(content) ? content : {};
}

/** The events that an entry's verdict was made by, where it says so. */
export function authStateOfEntry(event: JournalEvent): readonly EventId[] | undefined {
  return 'authState' in event ? event.authState : undefined;
}

/** Each of these entries, with the places by which its event is judged that turned out otherwise. */
export async function withTurned(
  sql: Sql,
  roomId: RoomId,
  entries: readonly RecordedEntry[],
): Promise<readonly Correction[]> {
  const turned = await turnedBy(sql, roomId, entries);
  return entries.map((entry) => ({ entry, turned: turned.get(entry.position) ?? [] }));
}

/** For each of these entries, the places by which its event is judged that turned out otherwise than when it was judged before. */
async function turnedBy(
  sql: Sql,
  roomId: RoomId,
  entries: readonly RecordedEntry[],
): Promise<Map<number, readonly Turned[]>> {
  const changes = entries.filter(({ event }) => authStateOfEntry(event) !== undefined && 'eventId' in event);
  const ids = changes.flatMap(({ event }) => ('eventId' in event ? [event.eventId] : []));
  if (ids.length === 0) return new Map();
  const about = (await readEntriesAbout(sql, roomId, ids)).filter(({ event }) => authStateOfEntry(event) !== undefined);
  const pairs = changes.flatMap((entry) => {
    const before = about.findLast(({ position, event }) => position < entry.position && isOfSame(event, entry.event));
    return before === undefined ? [] : [{ entry, before }];
  });
  const wanted = new Set([
    ...ids,
    ...pairs.flatMap(({ entry, before }) => [
      ...(authStateOfEntry(entry.event) ?? []),
      ...(authStateOfEntry(before.event) ?? []),
    ]),
  ]);
  const pdus = new Map((await readPdus(sql, roomId, [...wanted])).map((pdu) => [pdu.eventId, pdu]));
  return new Map(
    pairs.map(({ entry, before }) => {
      const subject = 'eventId' in entry.event ? (pdus.get(entry.event.eventId)?.sender ?? '') : '';
      const witnesses = (event: JournalEvent) => byPlace(authStateOfEntry(event) ?? [], pdus, subject);
      return [entry.position, turned(witnesses(before.event), witnesses(entry.event))];
    }),
  );
}

const isOfSame = (a: JournalEvent, b: JournalEvent): boolean =>
  'eventId' in a && 'eventId' in b && a.eventId === b.eventId;

function byPlace(
  ids: readonly EventId[],
  pdus: ReadonlyMap<EventId, StoredPdu>,
  subject: string,
): ReadonlyMap<string, Witness> {
  const witnesses = ids.flatMap((id) => pdus.get(id) ?? []).map((pdu) => witnessOf(pdu, subject));
  return new Map(witnesses.map((witness) => [stateMapKey(witness.type, witness.stateKey), witness]));
}

function turned(before: ReadonlyMap<string, Witness>, after: ReadonlyMap<string, Witness>): Turned[] {
  const places = new Set([...before.keys(), ...after.keys()]);
  return [...places].flatMap((place) => {
    const [was, is] = [before.get(place) ?? null, after.get(place) ?? null];
    return was?.eventId === is?.eventId ? [] : [{ was, is }];
  });
}
