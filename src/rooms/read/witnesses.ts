/** The events that a verdict rests on, in words: who is what by the state that an event was judged by. */
import { ownString, ownValue } from '../../matrix/content.ts';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type Json } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
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

/** What an event is judged by from an entry on: the events of the state at the places that the auth rules look at for it. */
export interface Judgement {
  readonly position: number;
  readonly eventId: EventId;
  readonly authState: readonly EventId[];
}

/** What an entry says itself; of one that gives events other states it is looked up there. */
function judgementsOf(entries: readonly RecordedEntry[]): Judgement[] {
  return entries.flatMap(({ position, event }) =>
    'authState' in event ? [{ position, eventId: event.eventId, authState: event.authState }] : [],
  );
}

/**
 * Each of these entries, with the places by which its event is judged that turned out otherwise.
 *
 * @param known what events are judged by since entries that do not say it.
 */
export async function withTurned(
  sql: Sql,
  roomId: RoomId,
  entries: readonly RecordedEntry[],
  known: readonly Judgement[] = [],
): Promise<readonly Correction[]> {
  const turned = await turnedBy(sql, roomId, entries, known);
  return entries.map((entry) => ({ entry, turned: turned.get(entry.position) ?? [] }));
}

/** For each of these entries, the places by which its event is judged that turned out otherwise than when it was judged before. */
async function turnedBy(
  sql: Sql,
  roomId: RoomId,
  entries: readonly RecordedEntry[],
  known: readonly Judgement[],
): Promise<Map<number, readonly Turned[]>> {
  const positions = new Set(entries.map(({ position }) => position));
  const told = [...judgementsOf(entries), ...known.filter(({ position }) => positions.has(position))];
  const ids = told.map(({ eventId }) => eventId);
  if (ids.length === 0) return new Map();
  const judgements = [...judgementsOf(await readEntriesAbout(sql, roomId, ids)), ...known].sort(
    (a, b) => a.position - b.position,
  );
  const pairs = told.flatMap((after) => {
    const before = judgements.findLast(
      ({ position, eventId }) => position < after.position && eventId === after.eventId,
    );
    return before === undefined ? [] : [{ before, after }];
  });
  const wanted = new Set([...ids, ...pairs.flatMap(({ before, after }) => [...before.authState, ...after.authState])]);
  const pdus = new Map((await readPdus(sql, roomId, [...wanted])).map((pdu) => [pdu.eventId, pdu]));
  return new Map(
    pairs.map(({ before, after }) => {
      const subject = pdus.get(after.eventId)?.sender ?? '';
      return [after.position, turned(byPlace(before, pdus, subject), byPlace(after, pdus, subject))];
    }),
  );
}

function byPlace(
  { authState }: Judgement,
  pdus: ReadonlyMap<EventId, StoredPdu>,
  subject: string,
): ReadonlyMap<string, Witness> {
  const witnesses = authState.flatMap((id) => pdus.get(id) ?? []).map((pdu) => witnessOf(pdu, subject));
  return new Map(witnesses.map((witness) => [stateMapKey(witness.type, witness.stateKey), witness]));
}

function turned(before: ReadonlyMap<string, Witness>, after: ReadonlyMap<string, Witness>): Turned[] {
  const places = new Set([...before.keys(), ...after.keys()]);
  return [...places].flatMap((place) => {
    const [was, is] = [before.get(place) ?? null, after.get(place) ?? null];
    return was?.eventId === is?.eventId ? [] : [{ was, is }];
  });
}
