/** What state resolution takes: from its callers, and as the algorithms of the versions get it. */
import { type AuthGraph } from './auth-chain.ts';
import { type EventId, type RoomId } from '../identifiers.ts';
import { type Pdu } from '../pdu.ts';
import { type RoomVersionRules } from '../room-versions.ts';
import { type StateMap } from '../state-map.ts';

export interface ResolutionInput {
  readonly rules: RoomVersionRules;
  readonly roomId: RoomId;
  /** The states to resolve; equal ones may repeat. Every event in them is a state event of this room. */
  readonly stateSets: readonly StateMap[];
  /** An event of the room, rejected ones included; `undefined` counts as missing. Events of other rooms count so too. */
  readonly fetchEvent: (id: EventId) => Pdu | undefined;
  /** Whether an event was rejected on receipt. Rejected events never enter the resolved state. */
  readonly isRejected?: (id: EventId) => boolean;
  /** Told of each event that the auth rules refuse during the resolution. */
  readonly onRefused?: (id: EventId) => void;
  /** The auth graph, where the caller holds it apart from the events; by default it is read off them. */
  readonly authGraph?: AuthGraph;
}

/** The input as the algorithms take it: no optional parts, and only events of the room. */
export interface Resolution {
  readonly rules: RoomVersionRules;
  readonly stateSets: readonly StateMap[];
  readonly fetchEvent: (id: EventId) => Pdu | undefined;
  readonly isRejected: (id: EventId) => boolean;
  readonly onRefused: (id: EventId) => void;
  readonly authGraph: AuthGraph;
}
