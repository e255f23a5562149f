/** A client that syncs and keeps what it is told, as clients do; tests compare that with the state that the room has. */
import { type EventId, type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { readRoom } from '../../src/store/journal/rooms.ts';
import { type Store } from '../../src/store/open-store.ts';
import { readSnapshot } from '../../src/store/snapshots/snapshots.ts';
import { type RoomPart, type Sync, type SyncAnswer, type SyncRequest } from '../../src/sync/contract.ts';

export interface FoldingOptions {
  readonly userId: string;
  readonly deviceId?: string;
  readonly lazy?: boolean;
  readonly stateAfter?: boolean;
  /** Only these, where a test shares its user with others. */
  readonly rooms?: readonly RoomId[];
  readonly limit?: number;
  readonly state?: JsonObject;
  readonly timeline?: JsonObject;
}

interface KnownRoom {
  readonly state: Map<string, string>;
  readonly timeline: string[];
}

export class FoldingClient {
  readonly rooms = new Map<RoomId, KnownRoom>();
  readonly #sync: Sync;
  readonly #options: FoldingOptions;
  #since: string | undefined;

  /** `since`: the token that it kept, where it is the same client on another process. */
  constructor(sync: Sync, options: FoldingOptions, since?: string) {
    this.#sync = sync;
    this.#options = options;
    this.#since = since;
  }

  get token(): string | undefined {
    return this.#since;
  }

  /** Syncs from where it stands, and keeps what comes. */
  async sync(over: Partial<SyncRequest> = {}): Promise<SyncAnswer> {
    const answer = await this.ask(over);
    await this.take(answer);
    return answer;
  }

  /** Asks from where it stands; what is not taken was lost on the way, and may be asked for again. `by`: another process. */
  ask(over: Partial<SyncRequest> = {}, by = this.#sync): Promise<SyncAnswer> {
    const {
      userId,
      deviceId = 'DEVICE',
      lazy = false,
      stateAfter = false,
      rooms,
      limit,
      state,
      timeline,
    } = this.#options;
    return by.sync({
      userId: userId as UserId,
      deviceId,
      since: this.#since,
      filter: {
        room: {
          ...(rooms === undefined ? {} : { rooms }),
          state: { lazy_load_members: lazy, ...state },
          timeline: { ...(limit === undefined ? {} : { limit }), ...timeline },
        },
      },
      isFullState: false,
      isStateAfter: stateAfter,
      timeoutMs: 0,
      signal: new AbortController().signal,
      ...over,
    });
  }

  /** Keeps what it was told. */
  async take(answer: SyncAnswer): Promise<void> {
    this.#since = answer.nextBatch;
    const rest = new Map<RoomId, JsonObject[]>();
    for await (const { roomId, events } of answer.restOfStates ?? []) {
      rest.set(roomId, [...(rest.get(roomId) ?? []), ...events]);
    }
    for (const [roomId, part] of [...answer.joined, ...answer.left]) {
      this.#fold(roomId, { ...part, state: [...part.state, ...(rest.get(roomId) ?? [])] });
    }
    // Who is invited is in the room no more, though he is not told of the leave.
    const gone = [...answer.left.keys(), ...answer.invited.keys(), ...answer.knocked.keys()];
    for (const roomId of gone) this.rooms.delete(roomId);
  }

  /** Syncs until there is nothing more to tell; gives how many responses that took. */
  async catchUp(): Promise<number> {
    for (let responses = 1; ; responses += 1) {
      const { joined, left } = await this.sync();
      if (joined.size + left.size === 0) return responses - 1;
    }
  }

  #fold(roomId: RoomId, part: RoomPart): void {
    const room = this.rooms.get(roomId) ?? { state: new Map<string, string>(), timeline: [] };
    this.rooms.set(roomId, room);
    const keep = (event: JsonObject): void => {
      if (event['state_key'] !== undefined) room.state.set(placeOf(event), event['event_id'] as string);
    };
    if (part.isLimited) room.timeline.length = 0;
    part.state.forEach(keep);
    for (const event of part.timeline) {
      room.timeline.push(event['event_id'] as string);
      if (this.#options.stateAfter !== true) keep(event);
    }
    for (const { type, stateKey } of part.removed) room.state.delete(`${type} ${stateKey}`);
  }

  /** What it holds of a room is what the room has; of memberships a lazy client may hold some only. */
  async expectTrue(store: Store, roomId: RoomId): Promise<void> {
    const differences = await this.differsFromStored(store, roomId);
    if (differences.length > 0) throw new Error(differences.join('\n'));
  }

  /** As `differsFrom`, from the state that is stored as the current one. */
  async differsFromStored(store: Store, roomId: RoomId): Promise<string[]> {
    const room = await readRoom(store, roomId);
    const entries = room?.currentState == null ? [] : await readSnapshot(store, roomId, room.currentState);
    const truth = new Map(entries.map(({ type, stateKey, eventId }) => [`${type} ${stateKey}`, eventId]));
    return this.differsFrom(truth, roomId, { isPartial: room?.partial === true });
  }

  /** In words, where what it holds is not the state by places, `TYPE STATE_KEY`; empty: it holds that, as far as it should. */
  differsFrom(
    truth: ReadonlyMap<string, EventId>,
    roomId: RoomId,
    { isPartial }: { readonly isPartial: boolean },
  ): string[] {
    const held = this.rooms.get(roomId)?.state ?? new Map<string, string>();
    const isMember = (place: string): boolean => place.startsWith('m.room.member ');
    const differences: string[] = [];
    for (const [place, eventId] of truth) {
      if (this.#options.lazy === true && isMember(place) && !held.has(place)) continue;
      if (held.get(place) === eventId) continue;
      differences.push(`${place} is ${held.get(place) ?? 'nothing'} to the client, and should be ${eventId}`);
    }
    for (const [place, eventId] of held) {
      // A partial state lacks members that events prove.
      if (truth.has(place) || (isPartial && isMember(place))) continue;
      differences.push(`${place} is ${eventId} to the client, and should be nothing`);
    }
    return differences;
  }
}

function placeOf({ type, state_key: stateKey }: JsonObject): string {
  return `${type as string} ${stateKey as string}`;
}
