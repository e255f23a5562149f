/** What some places of a state say, as it is given to whoever reads it: what was taken back says what its redaction leaves. */
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type RoomId } from '../../matrix/identifiers.ts';
import { type JsonObject, type StateKey } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readPdus } from '../../store/events/pdus.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { asRedacted } from './as-redacted.ts';

export interface RoomContents {
  has(type: string): boolean;
  /** Of the place without a state key; `{}`: nothing is said there. */
  contentOf(type: string): JsonObject;
  /** Of all places of a type that was asked for, in the order of their keys. */
  ofType(
    type: string,
  ): readonly { readonly stateKey: string; readonly content: JsonObject; readonly json: JsonObject }[];
}

/** Events of one type that are read. */
const OF_TYPE_MAX = 1_000;

/** `types`: of these all places, for which all of the state but memberships is gone through. */
export async function readRoomContents(
  sql: Sql,
  roomId: RoomId,
  state: SnapshotId,
  { places, types = [] }: { readonly places: readonly StateKey[]; readonly types?: readonly string[] },
): Promise<RoomContents> {
  const named = new Set(places.map(({ type, stateKey }) => stateMapKey(type, stateKey)));
  const filter = types.length === 0 ? { keys: places } : { members: false, keys: places };
  const entries = (await readSnapshot(sql, roomId, state, filter)).filter(
    ({ type, stateKey }) => named.has(stateMapKey(type, stateKey)) || types.includes(type),
  );
  const read = entries.slice(0, OF_TYPE_MAX + places.length).map(({ eventId }) => eventId);
  const pdus = await readPdus(sql, roomId, read);
  const given = await asRedacted(sql, roomId, pdus);
  const events = given.flatMap(({ json }, i) => {
    const parsed = parseJsonObject(json);
    const { type, stateKey } = pdus[i] ?? {};
    if (!parsed.ok || type === undefined || typeof stateKey !== 'string') return [];
    const { content } = parsed.value;
    return [{ type, stateKey, content: isJsonObject(content) ? content : {}, json: parsed.value }];
  });
  const at = (type: string) => events.find((event) => event.type === type && event.stateKey === '');
  return {
    has: (type) => at(type) !== undefined,
    contentOf: (type) => at(type)?.content ?? {},
    ofType: (type) =>
      events.filter((event) => event.type === type).toSorted((a, b) => (a.stateKey < b.stateKey ? -1 : 1)),
  };
}
