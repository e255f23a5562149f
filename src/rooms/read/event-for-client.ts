/** One event, if a user may see it. */
import { type SeenFrom, maySee } from '../../matrix/client/history-visibility.ts';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { bundlesOf } from '../../store/events/bundles.ts';
import { type HeldEvent } from '../../store/journal/views.ts';
import { fromStorable } from '../../store/storable-text.ts';
import { type ClientQuery, type SummedUp } from '../client-contract.ts';
import { type NotReady, type StateEvent } from '../contract.ts';
import { RoomError } from '../error.ts';
import { withoutTaken } from './as-redacted.ts';
import { type FullStateWaits } from './full-state.ts';
import { type HistoryContext, seenHistory } from './history-pages.ts';
import { type SharedLooks } from './shared-looks.ts';
import { type Reader, type Readers, visibilityAt } from './who-may-read.ts';

const VISIBILITY = 'm.room.history_visibility';
const MEMBER = 'm.room.member';

/** What reading single events takes. */
export interface EventReading extends Pick<HistoryContext, 'store' | 'clock'> {
  readonly waits: FullStateWaits;
  readonly looks: SharedLooks;
  readonly readers: Readers;
  readonly toldOf: (roomId: RoomId) => Promise<NotReady>;
}

/** Waits only where a membership that is not known yet decides. Throws `unknown-event` for whatever is not to be seen. */
export async function eventForClient(
  reading: EventReading,
  query: ClientQuery,
  eventId: EventId,
): Promise<({ readonly ready: true } & StateEvent & SummedUp) | NotReady> {
  const { looks, waits } = reading;
  const { roomId } = query;
  const look = async (): Promise<{ readonly held: HeldEvent; readonly isSeen: boolean | undefined }> => {
    const held = await looks.held({ roomId, eventId });
    if (held?.isShown !== true) throw notFound(eventId);
    return { held, isSeen: await seesHeld(reading, query, eventId, held) };
  };
  let { held, isSeen: seen } = await look();
  if (seen === undefined) {
    if ((await waits.event(roomId, eventId, query)) === undefined) return reading.toldOf(roomId);
    // It may have turned out to be rejected.
    ({ held, isSeen: seen } = await look());
  }
  if (seen !== true) throw notFound(eventId);
  const { json } = held;
  const taken = await looks.redacted({ eventId, roomId, json });
  const relations = taken === undefined ? await relationsOf(reading, query, eventId, held) : undefined;
  return { ready: true, ...withoutTaken({ eventId, json }, taken), ...(relations === undefined ? {} : { relations }) };
}

/** As far as the user may know of what relates to it. */
async function relationsOf(
  { store, clock, looks, readers }: EventReading,
  { roomId, userId }: ClientQuery,
  eventId: EventId,
  { position }: HeldEvent,
): Promise<JsonObject | undefined> {
  const reader = await readers.find(roomId, userId);
  const upTo = reader?.may === 'then' ? reader.left.position : null;
  const parent = { roomId, eventId, userId, upTo, joinedSince: wasJoinedSince(reader, position ?? 0) };
  const related = await looks.related(parent);
  return (await bundlesOf(store, [parent], related, userId, clock.now())).get(eventId);
}

function notFound(eventId: EventId): RoomError {
  return new RoomError('unknown-event', `there is no event ${eventId} here, or it is not to be seen`);
}

/** Whether a user may see an event; `undefined`: a membership decides that is not known. */
export async function seesEvent(
  reading: EventReading,
  query: ClientQuery,
  eventId: EventId,
): Promise<boolean | undefined> {
  const held = await reading.looks.held({ roomId: query.roomId, eventId });
  return held?.isShown === true && (await seesHeld(reading, query, eventId, held));
}

async function seesHeld(
  reading: EventReading,
  { roomId, userId }: ClientQuery,
  eventId: EventId,
  held: HeldEvent,
): Promise<boolean | undefined> {
  const { looks, readers } = reading;
  const reader = await readers.find(roomId, userId);
  const { position, stateBefore, stateAfter, type, stateKey } = held;
  if (position === null || stateBefore === null || stateAfter === null) {
    if (reader === undefined) return false;
    if (await isPlaced(looks, roomId, reader, eventId, held)) return true;
    return (await seenHistory(reading, { query: { roomId, userId }, reader }, eventId)) !== undefined;
  }
  const seenFrom = async (state: SnapshotId): Promise<SeenFrom> => {
    const [own] = await looks.entriesAt({ roomId, state, places: [{ type: MEMBER, stateKey: userId }] });
    const visibility = await visibilityAt(looks, roomId, state);
    // Whoever of us is joined in a partial state is there. That he was invited before we came is not known.
    const isUnknown = own === undefined && held.partial && visibility === 'invited';
    return { visibility, membership: isUnknown ? undefined : (own?.membership ?? null) };
  };

  const changesIt = (type === VISIBILITY && stateKey === '') || (type === MEMBER && stateKey === userId);
  const around = [await seenFrom(stateBefore), ...(changesIt ? [await seenFrom(stateAfter)] : [])];
  return maySee(around, wasJoinedSince(reader, position));
}

function wasJoinedSince(reader: Reader | undefined, position: number): boolean {
  if (reader === undefined) return false;
  return reader.may === 'now' ? reader.isJoined : position <= reader.left.position;
}

/** An event of a state, which is in no timeline: it is seen by whoever may read a state that it stands in. */
async function isPlaced(
  looks: SharedLooks,
  roomId: ClientQuery['roomId'],
  reader: Reader,
  eventId: EventId,
  { type, stateKey }: HeldEvent,
): Promise<boolean> {
  if (stateKey === null) return false;
  const state = reader.may === 'now' ? reader.currentState : reader.left.stateAfter;
  const place = { type: fromStorable(type), stateKey: fromStorable(stateKey) };
  const [entry] = await looks.entriesAt({ roomId, state, places: [place] });
  return entry?.eventId === eventId;
}
