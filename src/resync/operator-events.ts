/** What operators decide about a room, as the journal has it: what, who, when, and why. */
import { type ServerName } from '../matrix/identifiers.ts';
import { type RoomPolicyChanges } from './room-policy.ts';

/** Whose decision it is; of both a person's own words, one line each. */
export interface Directed {
  readonly by: string;
  /** Absent: nobody said. */
  readonly reason?: string;
  readonly at: number;
}

/** Part of the `resync` stream. */
export type OperatorEvent =
  /** The server is asked before all others. */
  | ({ readonly type: 'ResidentPinned'; readonly resident: ServerName } & Directed)
  | ({ readonly type: 'PinLifted'; readonly resident: ServerName } & Directed)
  /** The server is asked nothing about the room; an attempt at it that is under way ends without an outcome. */
  | ({ readonly type: 'ResidentBanned'; readonly resident: ServerName } & Directed)
  | ({ readonly type: 'BanLifted'; readonly resident: ServerName } & Directed)
  /** The room has policies of its own. */
  | ({ readonly type: 'RoomPolicySet'; readonly policy: RoomPolicyChanges } & Directed)
  /** Somebody sent a signal that cannot be followed, and nobody else would tell him. Nothing is changed. */
  | ({ readonly type: 'CommandRefused'; readonly command: string; readonly because: string } & Directed);
