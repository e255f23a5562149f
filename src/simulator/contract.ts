/**
 * What a simulated federation offers to tests, benches and the demo; no code. Everything that passes is data, so that it is
 * the same whether the federation runs in this process or in one of its own.
 */
import { type EventId, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type PlacedDraft } from './room.ts';
import { type RoomShape } from './room-shape.ts';
import { type SimulatorFault } from './simulator-faults.ts';

/** As the paths of the spec have them; `unrecognized`: any other path. */
export type EndpointName =
  | 'server_keys'
  | 'notary_query'
  | 'version'
  | 'query_directory'
  | 'query_profile'
  | 'user_devices'
  | 'make_join'
  | 'send_join'
  | 'state'
  | 'state_ids'
  | 'event'
  | 'event_auth'
  | 'backfill'
  | 'get_missing_events'
  | 'timestamp_to_event'
  | 'send'
  | 'unrecognized';

export interface PlannedRoom extends Omit<RoomShape, 'seed'> {
  /** The residents that are in it, by their numbers, in their order; all when absent. */
  readonly residents?: readonly number[];
}

export interface SimulatorOptions {
  /** The same seed makes the same rooms, keys and events. */
  readonly seed: number;
  /** Servers named `residentN.DOMAIN`, N from 1; all of them are in all rooms that name no others, and answer for them alike. */
  readonly residents: number;
  readonly rooms: readonly PlannedRoom[];
  /** TCP port on 127.0.0.1; one of the system's choice when absent. */
  readonly port?: number;
  /** `federation.test` when absent. */
  readonly domain?: string;
  /** PEM certificates of the authorities that joining servers' certificates are by. */
  readonly joinersAuthorityPem?: string;
  /** Waited before each answer. */
  readonly latencyMs?: number;
  /** Of each connection. */
  readonly bytesPerSecond?: number;
}

/** A fault, where and how often it strikes. */
export interface SimulatorFaultRule {
  readonly fault: SimulatorFault;
  /** Strikes requests to this server only; all servers when absent. */
  readonly server?: ServerName;
  /** Strikes this endpoint only; all when absent. */
  readonly endpoint?: EndpointName;
  /** Strikes so many requests and then no more; all when absent. */
  readonly times?: number;
}

/** A rule in force. */
export interface InjectedFault {
  /** Requests that it has struck; of `down`, new connections. */
  hits(): Promise<number>;
  /** Resolves when a `hold` has stopped a body for the first time. */
  held(): Promise<void>;
  /** Lets go of the bodies that a `hold` has stopped, and of those to come. */
  release(): Promise<void>;
  /** Strikes no further request; those struck go on. */
  remove(): Promise<void>;
}

/** What one server answered, or sent, at one endpoint. */
export interface RequestCount {
  readonly server: ServerName;
  readonly endpoint: EndpointName;
  /** `answered`: requests of joining servers. `sent`: transactions that this server pushed to them. */
  readonly direction: 'answered' | 'sent';
  readonly requests: number;
  /** Of answers' bodies, or of transactions; without HTTP's framing. */
  readonly bodyBytes: number;
  /** Of the requests, those answered with an error or not at all; of transactions, those given up after all retries. */
  readonly failed: number;
  /** Servers whose keys were asked for; of notary queries only, else 0. */
  readonly keyServers: number;
}

/** A room as it was when it was looked at. */
export interface SimulatedRoomSummary {
  readonly roomId: RoomId;
  /** Of `resident1`. */
  readonly alias: string;
  readonly roomVersion: string;
  /** A user of `resident1`, who may do anything there. */
  readonly creator: UserId;
  readonly members: number;
  readonly servers: number;
  readonly stateEvents: number;
  /** Of the state's events as they are sent. */
  readonly stateBytes: number;
}

/** The true state of a room. */
export interface StateDigest {
  /** SHA-256, hex, of the sorted event ids of the current state joined by newlines; as in `StateFetched`. */
  readonly digest: string;
  readonly events: number;
  readonly joined: number;
}

/** An event of the true state. */
export interface StandingEvent {
  readonly eventId: EventId;
  readonly content: JsonObject;
}

export interface Simulator {
  readonly port: number;
  readonly domain: string;
  /** PEM certificate under which all simulated servers' certificate is. */
  readonly authorityPem: string;
  /** For the setting `federation.static_addresses`. */
  readonly staticAddresses: Readonly<Record<string, string>>;
  readonly residents: readonly ServerName[];
  /** As they were generated. */
  readonly rooms: readonly SimulatedRoomSummary[];
  /** Adds a rule. All rules that match a request strike it, in the order they were added. */
  inject(rule: SimulatorFaultRule): Promise<InjectedFault>;
  /** Removes all rules and lets go of what they hold. */
  clear(): Promise<void>;
  /** Rows with no request are left out. */
  counts(): Promise<readonly RequestCount[]>;
  resetCounts(): Promise<void>;
  /**
   * Appends events to the room, on top of it where a draft names no place, and pushes them, in order, to the joining servers
   * that are in it. Resolves when they are in the room; pushes go on in the background. A forbidden event is what a liar would
   * send: it is pushed like any other, and the simulated servers hold it as rejected, as real ones would.
   */
  emit(roomId: RoomId, drafts: readonly PlacedDraft[]): Promise<readonly EventId[]>;
  /** What stands at a place of the true state; `undefined`: nothing. */
  stateEvent(roomId: RoomId, type: string, stateKey: string): Promise<StandingEvent | undefined>;
  /** Whether the room has an event, be it one that a joining server said. */
  holds(roomId: RoomId, eventId: EventId): Promise<boolean>;
  /** A room as it is now. */
  summary(roomId: RoomId): Promise<SimulatedRoomSummary>;
  /** Some of the joined users of simulated servers, of as many servers as there are: senders of events to be emitted. */
  speakers(roomId: RoomId, limit: number): Promise<readonly UserId[]>;
  /** Resolves when every push so far has been answered or given up. */
  pushesSettled(): Promise<void>;
  digest(roomId: RoomId): Promise<StateDigest>;
  stop(): Promise<void>;
}
