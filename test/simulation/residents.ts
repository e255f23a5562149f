/**
 * The other servers of a simulated room as our client meets them: honest, unless they are down. What they gave us of missing
 * events is written down, since it is delivered as if it had been pushed.
 */
import {
  type EventBatch,
  type FederationClient,
  type MissingEventsQuery,
  type SendJoinHeader,
} from '../../src/federation/contract.ts';
import { FederationError } from '../../src/federation/error.ts';
import { type EventId, type ServerName, type UserId, domainOf } from '../../src/matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { createRandom } from '../differential/random.ts';
import { join, member, sceneAt } from './acts.ts';
import { type Activity } from './fragile-store.ts';
import { type Outage } from './plan.ts';
import { type Act, type SimulatedServer, type World } from './world.ts';

/** Of an answer of a server that gives a few at a time. */
const FEW = 3;

/** A join of ours that a resident took. */
export interface TakenJoin {
  readonly eventId: EventId;
  readonly userId: UserId;
  readonly prevEvents: readonly EventId[];
}

export class Residents {
  readonly outages = new Map<ServerName, Outage>();
  /** Given in answer to requests for missing events. */
  readonly given = new Set<EventId>();
  readonly joins: TakenJoin[] = [];
  /** Takes whoever comes, and does not tell of a ban. */
  lax: ServerName | undefined;
  /** What was asked of whom, in order. */
  readonly asked: string[] = [];
  readonly #world: World;
  readonly #activity: Activity;
  readonly #givesWhole: boolean;

  constructor(world: World, activity: Activity, { givesWhole }: { readonly givesWhole: boolean }) {
    this.#world = world;
    this.#givesWhole = givesWhole;
    this.#activity = activity;
  }

  client(): FederationClient {
    const world = this.#world;
    const raws = (ids: Iterable<EventId>): Uint8Array[] => [...ids].map((id) => world.raw(id));
    const client: Partial<FederationClient> = {
      makeJoin: (name, _room, userId) => this.#answer(name, 'make_join', (server) => this.#template(server, userId)),
      sendJoin: (name, _room, eventId, event, { omitMembers }) =>
        this.#answer(name, 'send_join', (server) =>
          // Who lets the banned in says nothing of the ban; a whole state with that lie in it would be no honest one.
          this.#join(server, eventId, event, omitMembers && (!this.#givesWhole || this.lax === name)),
        ),
      makeLeave: (name, _room, userId) =>
        this.#answer(name, 'make_leave', (server) => ({
          roomVersion: world.rules.version,
          event: this.#allowed(server, world.compose(member(userId, userId, 'leave'), server)).json,
        })),
      sendLeave: (name, _room, _eventId, event) =>
        this.#answer(name, 'send_leave', (server) => {
          world.add(this.#allowed(server, world.read(event)), server);
        }),
      stateIds: (name, _room, at) =>
        this.#answer(name, `state_ids ${at}`, () => {
          const stateIds = this.#stateBefore(name, at);
          return { stateIds, authChainIds: [...world.authChainOf(stateIds)] };
        }),
      state: (name, _room, at) =>
        this.#answer(name, `state ${at}`, () => {
          const state = this.#stateBefore(name, at);
          return streamOf([
            { array: 'pdus' as const, events: raws(state) },
            { array: 'auth_chain' as const, events: raws(world.authChainOf(state)) },
          ]);
        }),
      event: (name, eventId) => this.#answer(name, `event ${eventId}`, () => world.raw(this.#known(name, eventId))),
      eventAuth: (name, _room, eventId) =>
        this.#answer(name, `event_auth ${eventId}`, () => raws(world.authChainOf([this.#known(name, eventId)]))),
      getMissingEvents: (name, _room, query) =>
        this.#answer(name, 'get_missing_events', () => {
          const outage = this.outages.get(name);
          if (outage === 'mute') return [];
          const limit = outage === 'few' ? Math.min(FEW, query.limit) : query.limit;
          const found = this.#missing({ ...query, limit });
          for (const id of found) this.given.add(id);
          const [earliest, latest, gave] = [query.earliestEvents, query.latestEvents, found].map((ids) =>
            ids.join(', '),
          );
          this.asked.push(`  between ${earliest ?? ''} and ${latest ?? ''} it gave ${gave ?? ''}`);
          return raws(found);
        }),
    };
    return client as FederationClient;
  }

  #answer<T>(name: ServerName, what: string, make: (server: SimulatedServer) => T): Promise<T> {
    this.asked.push(`${name} ${what}`);
    return this.#activity.during(what, async () => {
      await Promise.resolve();
      const outage = this.outages.get(name);
      const server = this.#world.server(name);
      if (server === undefined || outage === 'unreachable') {
        throw new FederationError(name, 'unreachable', 'it is down');
      }
      if (outage === 'server-error') throw new FederationError(name, 'server-error', 'it fails', { status: 500 });
      return make(server);
    });
  }

  #known(name: ServerName, eventId: EventId): EventId {
    if (this.#world.events.has(eventId)) return eventId;
    throw new FederationError(name, 'not-found', 'there is no such event', { status: 404, errcode: 'M_NOT_FOUND' });
  }

  #stateBefore(name: ServerName, at: EventId): EventId[] {
    return [...this.#world.truth.stateBefore(this.#known(name, at)).values()];
  }

  #template(server: SimulatedServer, userId: UserId) {
    const world = this.#world;
    const act = join(sceneAt(world, server, createRandom(1)), userId);
    const isLax = this.lax === server.name;
    const event = world.compose(isLax ? this.#withoutBan(act, server) : act, server);
    if (isLax) return { roomVersion: world.rules.version, event: event.json };
    return { roomVersion: world.rules.version, event: this.#allowed(server, event).json };
  }

  /** Cites nothing that speaks against it: in the place of a ban the invite of before, if there was one. */
  #withoutBan(act: Act, server: SimulatedServer): Act {
    const { truth } = this.#world;
    const cited = truth.authEventsFor({ ...act, stateKey: act.stateKey }, this.#world.stateAt(server));
    const others = cited.filter((id) => truth.event(id).stateKey !== act.stateKey);
    return { ...act, auth: [...others, ...this.#invitesOf(act.sender).slice(-1)] };
  }

  #invitesOf(user: UserId): EventId[] {
    return [...this.#world.events.values()]
      .filter(({ type, stateKey, content }) => {
        return type === 'm.room.member' && stateKey === user && content['membership'] === 'invite';
      })
      .map(({ eventId }) => eventId);
  }

  #allowed(server: SimulatedServer, event: Pdu): Pdu {
    const { verdict, rule } = this.#world.judge(event);
    if (verdict === 'accepted') return event;
    throw new FederationError(server.name, 'forbidden', `no: ${String(rule)}`, { status: 403, errcode: 'M_FORBIDDEN' });
  }

  #join(server: SimulatedServer, eventId: EventId, json: JsonObject, omitMembers: boolean) {
    const world = this.#world;
    const isLax = this.lax === server.name;
    const event = isLax ? world.cosigned(json) : this.#allowed(server, world.cosigned(json));
    if (!world.events.has(eventId)) {
      world.add(event, server, isLax);
      this.joins.push({ eventId, userId: event.sender, prevEvents: event.prevEvents });
    }
    const before = new Map(world.truth.stateBefore(eventId));
    const place = stateMapKey('m.room.member', event.sender);
    if (isLax) before.delete(place);
    for (const invite of isLax ? this.#invitesOf(event.sender) : []) before.set(place, invite);
    const given = omitMembers ? withoutMembers(world, before, event.sender) : [...before.values()];
    const chain = world.authChainOf([...given, eventId]);
    return streamOf(
      [
        { array: 'state' as const, events: given.map((id) => world.raw(id)) },
        { array: 'auth_chain' as const, events: [...chain].map((id) => world.raw(id)) },
      ],
      { membersOmitted: omitMembers, serversInRoom: this.#serversIn(before), event: world.raw(eventId) },
    );
  }

  #serversIn(state: StateMap): ServerName[] {
    const world = this.#world;
    const members = world.users.filter((user) => {
      const id = state.get(stateMapKey('m.room.member', user));
      return id !== undefined && world.truth.event(id).content['membership'] === 'join';
    });
    return [...new Set(members.map((user) => domainOf(user)))];
  }

  /** Breadth first back from the latest, the oldest first in the answer. */
  #missing({ earliestEvents, latestEvents, limit }: MissingEventsQuery): EventId[] {
    const world = this.#world;
    const seen = new Set<EventId>([...earliestEvents, ...latestEvents]);
    const found: EventId[] = [];
    let front: readonly EventId[] = latestEvents;
    while (front.length > 0 && found.length < limit) {
      const parents = front.flatMap((id) => world.events.get(id)?.prevEvents ?? []);
      const next = [...new Set(parents)].filter((id) => !seen.has(id) && world.events.has(id));
      for (const id of next) seen.add(id);
      found.push(...next);
      front = next;
    }
    return found.slice(0, limit).reverse();
  }
}

function withoutMembers(world: World, state: StateMap, joiner: UserId): EventId[] {
  return [...state.values()].filter((id) => {
    const { type, stateKey } = world.truth.event(id);
    return type !== 'm.room.member' || stateKey === joiner;
  });
}

function streamOf<Name extends string>(batches: readonly EventBatch<Name>[], header: Partial<SendJoinHeader> = {}) {
  return {
    async *[Symbol.asyncIterator]() {
      for (const batch of batches) yield await Promise.resolve(batch);
    },
    summary: () => ({ bytes: 0, events: {}, dropped: 0, rest: new Map() }),
    header: () => ({ membersOmitted: undefined, serversInRoom: undefined, event: undefined, ...header }),
  };
}
