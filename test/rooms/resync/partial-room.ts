/** A partial room in a database, without network: a resident let us in, and what it will tell later is ours to choose. */
import { systemClock } from '../../../src/clock.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { type MissingEvents } from '../../../src/resync/degraded.ts';
import { type ResyncPolicy, defaultResyncPolicy } from '../../../src/resync/policy.ts';
import { type ResyncEvent, type SnapshotId, type TimelineEvent } from '../../../src/resync/events.ts';
import { type RoomsContext } from '../../../src/rooms/context.ts';
import { type Admission } from '../../../src/rooms/judge/admission.ts';
import { admitEvents } from '../../../src/rooms/judge/admit.ts';
import { correctEvents } from '../../../src/rooms/resync/correct-events.ts';
import { walkPartialEvents } from '../../../src/rooms/resync/walk.ts';
import { type StoredEventState, readEventStates } from '../../../src/store/events/event-states.ts';
import { insertPdus, recordOutlierVerdicts } from '../../../src/store/events/pdus.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { type RoomRow, createRoom, lockRoom, openEpoch, readRoom } from '../../../src/store/journal/rooms.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { createSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { silent } from '../../federation/tls-server.ts';
import { type CheckedPdu } from '../../../src/verification/contract.ts';

export const ADMIN = '@admin:there.test';
export const ME = '@me:here.test';
const RESIDENT = 'there.test' as ServerName;

export interface EventInTest {
  readonly id: string;
  readonly type: string;
  readonly sender?: string;
  readonly stateKey?: string;
  readonly content?: JsonObject;
  readonly prev?: readonly string[];
  readonly auth?: readonly string[];
  /** What a redaction takes back, where its version names that beside the content. */
  readonly redacts?: string;
  /** Its content is the redacted one, since its hash is of another. */
  readonly isHollow?: boolean;
}

let rooms = 0;

export class PartialRoom {
  readonly version: string;
  readonly number = (rooms += 1);
  readonly roomId = `!partial-${this.number}:there.test` as RoomId;
  readonly context: RoomsContext;
  readonly #store: Store;

  /** How often the room's workflow was rung. */
  rings = 0;

  constructor(store: Store, version = '10', policy: Partial<ResyncPolicy> = {}) {
    this.version = version;
    this.#store = store;
    type Used = 'store' | 'clock' | 'serverName' | 'random' | 'policy' | 'ring' | 'logger';
    const used: Pick<RoomsContext, Used> = {
      store,
      clock: systemClock,
      serverName: 'here.test' as ServerName,
      random: () => 0.5,
      policy: { ...defaultResyncPolicy, ...policy },
      ring: () => Promise.resolve(void (this.rings += 1)),
      logger: silent,
    };
    this.context = used as RoomsContext;
  }

  id(name: string): EventId {
    return `$${name}-${this.number}:there.test` as EventId;
  }

  /** The room as the resident's answer to send_join shows it, and our join in it: `$join`, after `$before`. */
  async join(): Promise<void> {
    const state: EventInTest[] = [
      { id: 'create', type: 'm.room.create', stateKey: '', content: { creator: ADMIN, room_version: this.version } },
      member('admin', ADMIN, 'join', { prev: ['create'], auth: ['create'] }),
      {
        id: 'power',
        type: 'm.room.power_levels',
        stateKey: '',
        content: { users: { [ADMIN]: 100 } },
        auth: ['create', 'admin'],
      },
      {
        id: 'rules',
        type: 'm.room.join_rules',
        stateKey: '',
        content: { join_rule: 'public' },
        auth: ['create', 'admin', 'power'],
      },
    ];
    await this.hold(...state);
    const stateBefore = await this.state('create', 'power', 'rules');
    const join = member('join', ME, 'join', { prev: ['before'], auth: ['create', 'power', 'rules'] });
    await insertPdus(this.#store, [this.#pdu(join)]);
    const stateAfter = await this.state('create', 'power', 'rules', 'join');
    await withTransaction(this.#store, async (tx) => {
      const room = await openEpoch(tx, await createRoom(tx, this.roomId, this.version));
      const joined = {
        joinEventId: this.id('join'),
        userId: ME as UserId,
        roomVersion: this.version,
        joinedVia: RESIDENT,
        serversInRoom: [RESIDENT],
        fetchAt: [this.id('before')],
        stateBefore,
        at: 1,
      };
      await append(tx, room, [
        { type: 'PartialStateJoined', ...joined },
        {
          type: 'PduAccepted',
          eventId: this.id('join'),
          partial: true,
          softFailed: false,
          stateBefore,
          stateAfter,
          currentState: stateAfter,
        },
      ]);
    });
  }

  /** Our next stay, in which the resident shows the room as at first, or with more: `$join2`, after `$before2`. */
  joinAgain(...more: readonly string[]): Promise<void> {
    return this.joinAgainAs(ME as UserId, ...more);
  }

  async joinAgainAs(userId: UserId, ...more: readonly string[]): Promise<void> {
    const stateBefore = await this.state('create', 'power', 'rules', ...more);
    await this.hold(member('join2', userId, 'join', { prev: ['before2'], auth: ['create', 'power', 'rules'] }));
    const stateAfter = await this.state('create', 'power', 'rules', ...more, 'join2');
    await withTransaction(this.#store, async (tx) => {
      const room = await openEpoch(tx, (await lockRoom(tx, this.roomId))!);
      const joined = {
        ...{ joinEventId: this.id('join2'), userId, roomVersion: this.version, joinedVia: RESIDENT },
        ...{ serversInRoom: [RESIDENT], fetchAt: [this.id('before2')], stateBefore, at: 9 },
      };
      const states = { stateBefore, stateAfter, currentState: stateAfter };
      await append(tx, room, [
        { type: 'PartialStateJoined', ...joined },
        { type: 'PduAccepted', eventId: this.id('join2'), partial: true, softFailed: false, ...states },
      ]);
    });
  }

  /** Stores events without a verdict. */
  async insert(...events: readonly EventInTest[]): Promise<void> {
    await insertPdus(
      this.#store,
      events.map((event) => this.#pdu(event)),
    );
  }

  /** Stores accepted outliers. */
  async hold(...events: readonly EventInTest[]): Promise<void> {
    await this.insert(...events);
    await recordOutlierVerdicts(
      this.#store,
      this.roomId,
      events.map(({ id }) => ({ eventId: this.id(id), verdict: 'accepted' as const, authDepth: null })),
    );
  }

  /** What another server pushed, as far as the checks before admission let it through. */
  async push(...events: readonly EventInTest[]): Promise<Admission[]> {
    const pdus = events.map((event) => this.#pdu(event));
    await insertPdus(this.#store, pdus);
    const ids = pdus.map(({ eventId }) => eventId);
    const admissions = await admitEvents(this.context, this.roomId, ids);
    return ids.map((id) => admissions.get(id)!);
  }

  state(...names: readonly string[]): Promise<SnapshotId> {
    return createSnapshot(
      this.#store,
      this.roomId,
      names.map((name) => this.id(name)),
    );
  }

  async journal(...events: readonly (ResyncEvent | TimelineEvent)[]): Promise<void> {
    await withTransaction(this.#store, async (tx) => append(tx, (await lockRoom(tx, this.roomId))!, events));
  }

  /** The resident tells the state before the join, which is what the walk judges by. */
  fetch(...names: readonly string[]): Promise<void> {
    return this.fetchLacking({}, ...names);
  }

  /** The same, with what nobody has of it. */
  async fetchLacking(lacking: { readonly missing?: MissingEvents }, ...names: readonly string[]): Promise<void> {
    await this.#fetchAt('before', lacking, names);
  }

  /** The same before the join of the next stay. */
  async fetchAgain(...names: readonly string[]): Promise<void> {
    await this.#fetchAt('before2', {}, names);
  }

  async #fetchAt(at: string, lacking: { readonly missing?: MissingEvents }, names: readonly string[]): Promise<void> {
    const attempt = { attemptNo: 1, resident: RESIDENT, atEventId: this.id(at), at: 2 };
    const counts = { state: names.length, authChain: 0, members: 1, fetched: 0, alreadyHeld: 0, dropped: 0 };
    const snapshotId = await this.state(...names);
    await this.journal(
      { type: 'StateFetchStarted', ...attempt },
      { type: 'StateFetched', ...attempt, snapshotId, counts, digest: 'd'.repeat(64), ...lacking },
    );
  }

  async walk(store: Store = this.#store, epoch = 1): Promise<RoomRow> {
    const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
    await walkPartialEvents({ ...this.context, store }, this.roomId, epoch, progress);
    return (await readRoom(this.#store, this.roomId))!;
  }

  /** What the workflow does of a room in which something is due. */
  async correct(store: Store = this.#store): Promise<RoomRow> {
    const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
    const stay = { roomId: this.roomId, epoch: 1 };
    while (!(await correctEvents({ ...this.context, store }, stay, progress)));
    return (await readRoom(this.#store, this.roomId))!;
  }

  async event(name: string): Promise<StoredEventState | undefined> {
    const id = this.id(name);
    return (await readEventStates(this.#store, this.roomId, [id])).get(id);
  }

  async extremities(): Promise<readonly EventId[]> {
    return withTransaction(this.#store, async (tx) => (await lockRoom(tx, this.roomId))!.extremities);
  }

  /** An event as it is stored after the checks. */
  pdu(event: EventInTest): CheckedPdu {
    return this.#pdu(event);
  }

  #pdu({
    id,
    type,
    sender = ADMIN,
    stateKey,
    content = {},
    prev = [],
    auth = [],
    isHollow = false,
    redacts,
  }: EventInTest): CheckedPdu {
    const ids = (names: readonly string[]): EventId[] =>
      names.map((name) => (name.startsWith('$') ? (name as EventId) : this.id(name)));
    const given = this.version === '1' || this.version === '2';
    const refer = (names: readonly string[]) =>
      given ? ids(names).map((each) => [each, { sha256: 'A'.repeat(43) }]) : ids(names);
    const json = {
      ...{ room_id: this.roomId, type, sender, content, depth: 1, origin_server_ts: 1 },
      ...{ prev_events: refer(prev), auth_events: refer(auth), hashes: { sha256: 'A'.repeat(43) }, signatures: {} },
      ...(stateKey === undefined ? {} : { state_key: stateKey }),
      ...(redacts === undefined ? {} : { redacts: this.id(redacts) }),
      ...(given ? { event_id: this.id(id) } : {}),
    };
    const membership = type === 'm.room.member' ? content['membership'] : undefined;
    return {
      ...{ eventId: this.id(id), roomId: this.roomId, type, sender: sender as UserId, depth: 1n, originServerTs: 1 },
      ...{ stateKey: stateKey ?? null, prevEvents: ids(prev), authEvents: ids(auth), hollow: isHollow },
      membership: typeof membership === 'string' ? membership : null,
      json: Buffer.from(JSON.stringify(json)),
    };
  }
}

export function member(id: string, userId: string, membership: string, about: Partial<EventInTest> = {}): EventInTest {
  return { id, type: 'm.room.member', stateKey: userId, sender: userId, content: { membership }, ...about };
}

export function message(id: string, sender: string, about: Partial<EventInTest> = {}): EventInTest {
  return { id, type: 'm.room.message', sender, content: { body: id }, ...about };
}
