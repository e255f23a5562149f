/**
 * The room as its other servers have it: every event that anybody ever made, signed, and what is true of each. A server
 * builds on what it knows; news passes from one to another when the schedule says so, and until then the graph forks.
 */
import { depthAfter, givenEventId, sealEvent, unsignedEvent } from '../../src/matrix/compose.ts';
import { authEventKeys } from '../../src/matrix/auth/auth-events.ts';
import { type AuthState } from '../../src/matrix/auth/auth-rules.ts';
import { parsePdu } from '../../src/matrix/event-format.ts';
import { type EventId, type RoomId, type ServerName, type UserId, domainOf } from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { type RoomVersionRules } from '../../src/matrix/room-versions.ts';
import { requiredSigners, signEvent } from '../../src/matrix/signing/signatures.ts';
import { type SigningKey } from '../../src/matrix/signing/signing-key.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { type Random, createRandom } from '../differential/random.ts';
import { keyOf, rulesOf } from '../matrix/sample-event.ts';
import { type Judgement, Oracle } from './oracle.ts';

/** Simulated time begins here, milliseconds since the Unix epoch. */
export const BEGINNING = 1_800_000_000_000;
/** A chain of more than this is not built on: no server is asked for so much in one request. */
const PARENTS_MAX = 10;
const HASH = { sha256: 'A'.repeat(43) };

/** By the part of a name that all rooms have in common, since to make a key takes longer than to sign with it for a whole run. */
export function keyOfServer(name: ServerName): SigningKey {
  return keyOf(name.slice(0, name.indexOf('-')));
}

/** One that every server had before, and that is not valid any more when a simulation begins. */
export function oldKeyOfServer(name: ServerName): SigningKey {
  return keyOf(name.slice(0, name.indexOf('-')), 'old');
}

/** What a server builds on. */
function parentsAt({ tips }: SimulatedServer): EventId[] {
  return tips.slice(-PARENTS_MAX);
}

/** What somebody does. */
export interface Act {
  readonly sender: UserId;
  readonly type: string;
  readonly stateKey?: string;
  readonly content: JsonObject;
  readonly redacts?: string;
  /** Cited in the place of what the state there names. */
  readonly auth?: readonly EventId[];
  /** Followed in the place of what the server knows as newest. */
  readonly prev?: readonly EventId[];
  /** Of another room than this. */
  readonly roomId?: RoomId;
  /** Signed by a key that its server had given up before. */
  readonly isSignedByOldKey?: boolean;
  /** Its sender makes another one of it, and each of the two cites the other by such edges. Where senders choose ids. */
  readonly circle?: 'prev' | 'auth';
}

/** Two events that cite each other. */
export interface Circle {
  readonly by: 'prev' | 'auth';
  readonly eventIds: readonly [EventId, EventId];
}

export interface SimulatedServer {
  readonly name: ServerName;
  readonly users: readonly UserId[];
  /** The newest events it knows, on which it builds. */
  tips: EventId[];
}

export class World {
  readonly rules: RoomVersionRules;
  readonly us: ServerName;
  readonly ourUsers: readonly UserId[];
  readonly servers: readonly SimulatedServer[];
  readonly events = new Map<EventId, Pdu>();
  /** By a server that knows them all. */
  readonly truth: Oracle;
  readonly random: Random;
  roomId: RoomId;
  #creation: EventId | undefined;
  #elsewhere: EventId | undefined;
  /** Signed by keys that were not valid then: rightly not in our timeline. */
  readonly unusable = new Set<EventId>();
  readonly circles: Circle[] = [];
  /** Servers that hold events that are their own ancestors refuse all of them. */
  readonly #onCircles = new Set<EventId>();

  /** `label` makes names and ids of this world its own. */
  constructor(label: string, version: string, seed: number, serverCount: number) {
    this.rules = rulesOf(version);
    this.random = createRandom(seed);
    this.us = `us-${label}.sim` as ServerName;
    this.ourUsers = ['me', 'you', 'them'].map((name) => `@${name}:${this.us}` as UserId);
    this.servers = ['a', 'b', 'c', 'd', 'e'].slice(0, serverCount).map((letter) => {
      const name = `${letter}-${label}.sim` as ServerName;
      return { name, users: [1, 2, 3].map((i) => `@${letter}${i}:${name}` as UserId), tips: [] };
    });
    this.roomId = `!room-${label}:${this.servers[0]!.name}` as RoomId;
    this.truth = this.oracle(
      () => true,
      () => new Map(),
      (eventId) => this.#onCircles.has(eventId),
    );
  }

  get create(): EventId {
    if (this.#creation === undefined) throw new Error('the room is not made yet');
    return this.#creation;
  }

  get users(): UserId[] {
    return this.servers.flatMap(({ users }) => users);
  }

  oracle(
    isInTimeline: (id: EventId) => boolean,
    stateBeforeOutside: (id: EventId) => StateMap,
    isCut: (id: EventId) => boolean,
  ): Oracle {
    const { rules, events } = this;
    return new Oracle({ rules, roomId: this.roomId, events, isInTimeline, stateBeforeOutside, isCut });
  }

  server(name: string): SimulatedServer | undefined {
    return this.servers.find((server) => server.name === name);
  }

  serverOf(user: UserId): SimulatedServer {
    return this.server(domainOf(user)) ?? this.servers[0]!;
  }

  /** The state as a server sees it. */
  stateAt(server: SimulatedServer): StateMap {
    return this.truth.resolve(server.tips.map((tip) => this.truth.stateAfter(tip)));
  }

  lookUpAt(server: SimulatedServer): AuthState {
    return this.truth.lookUp(this.stateAt(server));
  }

  /** References as the room version writes them. */
  references(ids: readonly EventId[]): Json[] {
    return this.rules.eventReferences === 'ids' ? [...ids] : ids.map((id) => [id, HASH]);
  }

  /** The event that an act makes, put nowhere yet. `eventId`: chosen before, where senders do. */
  compose(act: Act, server: SimulatedServer, eventId?: EventId): Pdu {
    const { rules, random } = this;
    const prev = act.prev ?? parentsAt(server);
    const auth = act.auth ?? this.#authEventsOf(act, prev);
    const isNameless = act.type === 'm.room.create' && rules.roomIdIsCreateHash;
    const unsigned = {
      ...unsignedEvent(
        { sender: act.sender, type: act.type, stateKey: act.stateKey, content: act.content },
        {
          roomId: isNameless ? undefined : (act.roomId ?? this.roomId),
          prevEvents: this.references(prev),
          authEvents: this.references(auth),
          depth: depthAfter(
            prev.flatMap((id) => this.events.get(id) ?? []),
            rules,
          ),
          originServerTs: BEGINNING - 1_000_000 + this.events.size,
        },
        eventId ?? givenEventId(rules, act.sender, () => random.next()),
      ),
      ...(act.redacts === undefined ? {} : { redacts: act.redacts }),
    };
    const signer = domainOf(act.sender);
    const key = act.isSignedByOldKey === true ? oldKeyOfServer(signer) : keyOfServer(signer);
    return this.cosigned(sealEvent(unsigned, rules, signer, key).event);
  }

  #authEventsOf(act: Act, prev: readonly EventId[]): EventId[] {
    const before = this.truth.resolve(prev.map((id) => this.truth.stateAfter(id)));
    return this.truth.authEventsFor({ ...act, stateKey: act.stateKey }, before);
  }

  /** Adds the signature of every other server that has to sign it. */
  cosigned(event: JsonObject): Pdu {
    const { rules } = this;
    const pdu = this.read(event);
    const required = requiredSigners(pdu, rules);
    const others = required.ok ? required.servers.filter((name) => name !== domainOf(pdu.sender)) : [];
    if (others.length === 0) return pdu;
    return this.read(others.reduce((signed, name) => signEvent(signed, rules, name, keyOfServer(name)), event));
  }

  read(event: JsonObject): Pdu {
    const parsed = parsePdu(event, this.rules, { capReferences: false });
    if (!parsed.ok) throw new Error(`the simulation made a malformed event: ${parsed.reason}`);
    return parsed.pdu;
  }

  /** Takes an event in; its server builds on it, unless it is rejected and `stubborn` is false. */
  add(event: Pdu, server: SimulatedServer, isStubborn = false): EventId {
    const { eventId } = event;
    if (event.type === 'm.room.create' && this.events.size === 0) {
      this.#creation = eventId;
      this.roomId = event.roomId;
    }
    this.events.set(eventId, event);
    if (event.type !== 'm.room.create' && event.roomId !== this.roomId) return eventId;
    if (isStubborn || !this.truth.isRejected(eventId)) this.follow(server, [eventId]);
    return eventId;
  }

  /** What a server that holds everything would say to an event that nobody has yet. */
  judge(event: Pdu): Judgement {
    const isHeld = this.events.has(event.eventId);
    this.events.set(event.eventId, event);
    const judgement = this.truth.judgementOf(event.eventId);
    if (!isHeld) this.events.delete(event.eventId);
    return judgement;
  }

  say(act: Act, server = this.serverOf(act.sender), isStubborn = false): EventId {
    if (act.circle !== undefined) return this.#sayInCircle(act, act.circle, server, isStubborn);
    const eventId = this.add(this.compose(act, server), server, isStubborn);
    const isInvalid = act.isSignedByOldKey === true && this.rules.enforceKeyValidity;
    if (isInvalid) this.unusable.add(eventId);
    return eventId;
  }

  /** The first of two events that cite each other; `otherInCircle` gives the second. */
  #sayInCircle(act: Act, by: Circle['by'], server: SimulatedServer, isStubborn: boolean): EventId {
    const [firstId, otherId] = [1, 2].map(() => givenEventId(this.rules, act.sender, () => this.random.next()));
    if (firstId === undefined || otherId === undefined) throw new Error('ids of this version are hashes');
    const prev = parentsAt(server);
    const auth = this.#authEventsOf(act, prev);
    // In the place of the event whose place the act takes: power levels, of which the next cite the last.
    const others = auth.filter((id) => this.truth.event(id).type !== act.type);
    const citing = (id: EventId, isFirst: boolean): Partial<Act> =>
      by === 'auth' ? { prev, auth: [...others, id] } : { prev: isFirst ? [...prev, id] : [id], auth };
    const first = this.compose({ ...act, ...citing(otherId, true) }, server, firstId);
    this.events.set(firstId, first);
    this.events.set(otherId, this.compose({ ...act, ...citing(firstId, false) }, server, otherId));
    this.circles.push({ by, eventIds: [firstId, otherId] });
    if (by === 'prev') for (const id of [firstId, otherId]) this.#onCircles.add(id);
    return this.add(first, server, isStubborn);
  }

  otherInCircle(eventId: EventId): EventId | undefined {
    return this.circles.find(({ eventIds: [first] }) => first === eventId)?.eventIds[1];
  }

  /** A server hears of events, and builds on them from then on. */
  follow(server: SimulatedServer, news: readonly EventId[]): void {
    const all = [...new Set([...server.tips, ...news])];
    server.tips = all.filter((tip) => !all.some((other) => other !== tip && this.isAncestor(tip, other)));
  }

  gossip(from: SimulatedServer, to: SimulatedServer): void {
    if (from !== to) this.follow(to, from.tips);
  }

  isAncestor(eventId: EventId, of: EventId): boolean {
    return this.ancestorsOf([of]).has(eventId);
  }

  /** Over prev edges, without the events themselves unless they are ancestors of each other. */
  ancestorsOf(eventIds: readonly EventId[]): Set<EventId> {
    return this.#reach(eventIds, (event) => event.prevEvents);
  }

  authChainOf(eventIds: readonly EventId[]): Set<EventId> {
    const { rules } = this;
    const create = rules.roomIdIsCreateHash ? [this.create] : [];
    return this.#reach(eventIds, (event) => (event.type === 'm.room.create' ? [] : [...event.authEvents, ...create]));
  }

  #reach(from: readonly EventId[], next: (event: Pdu) => readonly EventId[]): Set<EventId> {
    const found = new Set<EventId>();
    const toLook = [...from];
    for (let id = toLook.pop(); id !== undefined; id = toLook.pop()) {
      const event = this.events.get(id);
      for (const parent of event === undefined ? [] : next(event)) {
        if (found.has(parent)) continue;
        found.add(parent);
        toLook.push(parent);
      }
    }
    return found;
  }

  /** In ASCII, as most servers write it. */
  raw(eventId: EventId): Uint8Array {
    const json = JSON.stringify(this.truth.event(eventId).json);
    return Buffer.from(
      json.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`),
    );
  }

  /** An event of another room, which its maker's server holds and gives to whoever asks. */
  get elsewhere(): EventId {
    if (this.#elsewhere !== undefined) return this.#elsewhere;
    const { rules } = this;
    const [sender] = this.users;
    if (sender === undefined) throw new Error('a room has a user');
    const creator = rules.creatorIsSender ? {} : { creator: sender };
    const content = { room_version: rules.version, ...creator, topic: 'another room' };
    const roomId = this.roomId.replace('!', '!other-') as RoomId;
    const act = { sender, type: 'm.room.create', stateKey: '', content, prev: [], auth: [], roomId };
    const event = this.compose(act, this.servers[0]!);
    this.events.set(event.eventId, event);
    this.#elsewhere = event.eventId;
    return event.eventId;
  }

  membershipAt(server: SimulatedServer, user: UserId): string | undefined {
    const id = this.stateAt(server).get(stateMapKey('m.room.member', user));
    const membership = id === undefined ? undefined : this.truth.event(id).content['membership'];
    return typeof membership === 'string' ? membership : undefined;
  }

  /** The places that an act of ours would be judged by. */
  selectionOf(subject: Parameters<typeof authEventKeys>[0]): ReturnType<typeof authEventKeys> {
    return authEventKeys(subject, this.rules);
  }
}
