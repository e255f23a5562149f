/** What another server says a user is to be told of a room that we are not in: any JSON, of which stripped state events are kept. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type CheckOutcome } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { checkEvents } from '../judge/check-events.ts';

const EVENTS_MAX = 50;
/** Of all that is kept of one room. */
const BYTES_MAX = 32 * 1024;

/** What a room is called by, and whether we can take part in it: kept before all else. */
const FIRST: readonly string[] = ['m.room.create', 'm.room.name'];

/**
 * The first stripped state events of it, as many as there is room for; one that is too large is left out alone.
 * Source: https://spec.matrix.org/v1.16/client-server-api/#stripped-state
 */
export function toldOfRoom(told: Json | undefined): readonly JsonObject[] {
  if (!Array.isArray(told)) return [];
  const all = (told as readonly Json[]).slice(0, EVENTS_MAX).flatMap(strippedOf);
  const isFirst = ({ type }: Stripped): boolean => FIRST.includes(type);
  const kept = new Set<Stripped>();
  let bytes = 0;
  for (const event of [...all.filter(isFirst), ...all.filter((other) => !isFirst(other))]) {
    const size = Buffer.byteLength(JSON.stringify(event));
    if (bytes + size > BYTES_MAX) continue;
    bytes += size;
    kept.add(event);
  }
  return all.filter((event) => kept.has(event));
}

/** What is kept of it, and what it should have held and does not; `undefined`: nothing. */
export interface CheckedTelling {
  readonly kept: readonly JsonObject[];
  readonly lacks: string | undefined;
}

/**
 * The same, checked where the room's version lets it be: since version 12 whole events are told, the create event among them, whose hash is the
 * room's name; and each is looked at as any event. What nobody gives a key for is left out; what has another content
 * than was hashed is taken as what its redaction leaves, as those are told that were taken back.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#put_matrixfederationv2inviteroomideventid
 */
export async function checkToldOfRoom(
  context: Pick<RoomsContext, 'verification' | 'keyRing'>,
  rules: RoomVersionRules,
  { roomId, told, signal }: { readonly roomId: RoomId; readonly told: Json | undefined; readonly signal: AbortSignal },
): Promise<CheckedTelling> {
  if (!rules.roomIdIsCreateHash) return { kept: toldOfRoom(told), lacks: undefined };
  const listed = Array.isArray(told) ? (told as readonly Json[]).slice(0, EVENTS_MAX) : [];
  const events = listed.flatMap((event) => (isJsonObject(event) ? [wholeOf(event)] : []));
  const outcomes = await checkEvents(context, { roomId, rules, events, asker: 'request', signal });
  const good = outcomes.flatMap((outcome) => eventOf(outcome, roomId));
  const unknown = outcomes.filter(({ outcome }) => outcome === 'key-missing').length;
  const kept = toldOfRoom(good);
  if (!good.some(({ type }) => type === 'm.room.create')) return { kept, lacks: 'the create event of the room' };
  const isWhole = good.length + unknown === listed.length;
  return { kept, lacks: isWhole ? undefined : 'whole and rightly signed state events of the room' };
}

/** As it is checked: what a server says of it itself is no part of it. */
function wholeOf(event: JsonObject): Uint8Array {
  return Buffer.from(canonicalJson(Object.fromEntries(Object.entries(event).filter(([name]) => name !== 'unsigned'))));
}

function eventOf(outcome: CheckOutcome, roomId: RoomId): JsonObject[] {
  if (outcome.outcome !== 'passed' || outcome.pdu.roomId !== roomId || outcome.pdu.stateKey === null) return [];
  const read = parseJsonObject(outcome.pdu.json);
  return read.ok ? [read.value] : [];
}

type Stripped = JsonObject & { readonly type: string };

function strippedOf(event: Json): Stripped[] {
  if (!isJsonObject(event)) return [];
  const { type, state_key: stateKey, sender, content } = event;
  if (typeof type !== 'string' || typeof stateKey !== 'string' || typeof sender !== 'string') return [];
  return isJsonObject(content) ? [{ type, state_key: stateKey, sender, content }] : [];
}
