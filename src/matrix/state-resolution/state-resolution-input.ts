/** What state resolution takes: from its callers, and as the algorithms of the versions get it. */
import { type AuthGraph } from './auth-chain.ts';
import { type Conflicts } from './conflicts.ts';
import { type EventId, type RoomId } from '../identifiers.ts';
import { type Pdu } from '../pdu.ts';
import { type RoomVersionRules } from '../room-versions.ts';
import { type StateMap } from '../state-map.ts';

/** The events that a resolution may look at. */
export interface ResolutionEvents {
  readonly rules: RoomVersionRules;
  readonly roomId: RoomId;
  /** An event of the room, rejected ones included; `undefined` counts as missing. Events of other rooms count so too. */
  readonly fetchEvent: (id: EventId) => Pdu | undefined;
  /** Whether an event was rejected on receipt. Rejected events never enter the resolved state. */
  readonly isRejected?: (id: EventId) => boolean;
  /** Told of each event that the auth rules refuse during the resolution. */
  readonly onRefused?: (id: EventId) => void;
  /** Auth depths that we worked out, of every event at hand; without them the chains are visited for it. */
  readonly authDepthOf?: AuthGraph['authDepthOf'];
}

export interface ResolutionInput extends ResolutionEvents {
  /** The states to resolve; equal ones may repeat. Every event in them is a state event of this room. */
  readonly stateSets: readonly StateMap[];
}

/** The input as the algorithms take it: no optional parts, and only events of the room. */
export interface Resolution extends Conflicts {
  readonly rules: RoomVersionRules;
  readonly fetchEvent: (id: EventId) => Pdu | undefined;
  readonly isRejected: (id: EventId) => boolean;
  readonly onRefused: (id: EventId) => void;
  readonly authGraph: AuthGraph;
}
