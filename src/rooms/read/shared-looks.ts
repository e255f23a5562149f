/**
 * What clients' reads look up, one look for all who ask in the same moment: thousands who wait for a room, or have left it and look
 * back, ask when it is whole, each about another event and another state.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type StateKey } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type StoredEventState, readStatesOfEvents } from '../../store/events/event-states.ts';
import { type GivenBody, type RedactedBody, readRedacted } from '../../store/events/redactions.ts';
import { type RelatedChildren, type RelatedParent, readRelated } from '../../store/events/relations.ts';
import { readHead } from '../../store/journal/journal.ts';
import { type NumberedBody, readNumbered } from '../../store/journal/seen-by-clients.ts';
import {
  type HeldEvent,
  type InRoom,
  type NumberedMember,
  type RoomView,
  type WantsToRead,
  readHeldEvents,
  readMembershipsOf,
  readRoomViews,
  readWholeStatesAt,
} from '../../store/journal/views.ts';
import { type Sql } from '../../store/open-store.ts';
import { readStates } from '../../store/snapshots/many-snapshots.ts';
import { readStateKeys } from '../../store/snapshots/state-keys.ts';
import { inBatches } from '../in-batches.ts';

/** Bodies of one look: 64 KiB each. */
const BODIES_MAX = 100;

/** Places of a state. */
export interface PlacesOfState {
  readonly roomId: RoomId;
  readonly state: SnapshotId;
  readonly places: readonly StateKey[];
}

/** One for a process. Each gives what is there when it is asked, or later. */
export interface SharedLooks {
  view(asked: WantsToRead): Promise<RoomView | undefined>;
  held(asked: InRoom): Promise<HeldEvent | undefined>;
  /** Of an event of the timeline. */
  eventState(asked: InRoom): Promise<StoredEventState | undefined>;
  /** What stands in the places, in their order. */
  entriesAt(asked: PlacesOfState): Promise<readonly (NumberedMember | undefined)[]>;
  body(nid: number): Promise<NumberedBody | undefined>;
  /** What is left of an event that was taken back; `undefined`: it was not. */
  redacted(body: GivenBody): Promise<RedactedBody | undefined>;
  wholeStateAt(asked: { readonly roomId: RoomId; readonly position: number }): Promise<SnapshotId | undefined>;
  /** What is summed up of an event. */
  related(asked: RelatedParent): Promise<readonly RelatedChildren[]>;
  /** The newest position. */
  head(): Promise<number>;
}

/** Puts the looks together; nothing is kept between two. */
export function createSharedLooks(sql: Sql): SharedLooks {
  const head = inBatches(
    async (asked: readonly 'head'[]) => {
      const position = await readHead(sql);
      return asked.map(() => position);
    },
    (name) => name,
  );
  const nameOfEvent = ({ roomId, eventId }: InRoom): string => `${eventId} ${roomId}`;
  return {
    view: inBatches(
      (asked: readonly WantsToRead[]) => readRoomViews(sql, asked),
      ({ roomId, userId }) => `${roomId} ${userId}`,
    ),
    held: inBatches((asked: readonly InRoom[]) => readHeldEvents(sql, asked), nameOfEvent, BODIES_MAX),
    eventState: inBatches((asked: readonly InRoom[]) => readStatesOfEvents(sql, asked), nameOfEvent),
    entriesAt: inBatches(
      (asked: readonly PlacesOfState[]) => readEntriesAt(sql, asked),
      ({ roomId, state, places }) => JSON.stringify([roomId, state, ...places.map((at) => [at.type, at.stateKey])]),
    ),
    body: inBatches(
      async (nids: readonly number[]) => {
        const bodies = await readNumbered(sql, nids);
        return nids.map((nid) => bodies.get(nid));
      },
      (nid) => String(nid),
      BODIES_MAX,
    ),
    redacted: inBatches(
      async (bodies: readonly GivenBody[]) => {
        const redacted = await readRedacted(sql, bodies);
        return bodies.map(({ eventId }) => redacted.get(eventId));
      },
      ({ eventId }) => eventId,
      BODIES_MAX,
    ),
    wholeStateAt: inBatches(
      (asked: readonly { readonly roomId: RoomId; readonly position: number }[]) => readWholeStatesAt(sql, asked),
      ({ roomId, position }) => `${position} ${roomId}`,
    ),
    related: inBatches(
      (asked: readonly RelatedParent[]) => readRelated(sql, asked),
      ({ eventId, userId, upTo, joinedSince }) => `${eventId} ${userId} ${upTo ?? ''} ${joinedSince}`,
    ),
    head: () => head('head'),
  };
}

async function readEntriesAt(
  sql: Sql,
  asked: readonly PlacesOfState[],
): Promise<readonly (NumberedMember | undefined)[][]> {
  const keys = await readStateKeys(
    sql,
    asked.flatMap(({ places }) => places),
  );
  const keysOf = ({ places }: PlacesOfState) =>
    places.map(({ type, stateKey }) => keys.get(stateMapKey(type, stateKey)));
  const states = await readStates(
    sql,
    asked.map((one) => {
      const wanted = new Set(keysOf(one).filter((key) => key !== undefined));
      return { roomId: one.roomId, state: one.state, selection: { keys: wanted } };
    }),
  );
  const events = await readMembershipsOf(
    sql,
    states.flatMap((places) => [...places.values()]),
  );
  return asked.map((one, i) => keysOf(one).map((key) => events.get(states[i]?.get(key ?? -1) ?? -1)));
}
