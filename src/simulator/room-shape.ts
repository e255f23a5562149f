/**
 * How big a simulated room is and what happened in it: the numbers that, with a seed, determine every byte of it.
 */

/** A room to be made. Equal shapes and equal names of servers make equal rooms, down to the event ids. */
export interface RoomShape {
  readonly seed: number;
  /** `1` to `12`. */
  readonly roomVersion: string;
  /** Joined users, exactly; at least one for each server. */
  readonly members: number;
  /** Servers with a joined user, exactly; the residents are among them. */
  readonly servers: number;
  /** Recent messages after the history of memberships. */
  readonly messages: number;
  /** Users that left or were kicked and stayed away, as a share of `members`. */
  readonly leftShare?: number;
  /** Users that are banned, as a share of `members`. */
  readonly bannedShare?: number;
  /** Users that are invited and have not answered, as a share of `members`. */
  readonly invitedShare?: number;
  /** Joined members whose membership event is not their first join: a new name or picture came later. */
  readonly profileChangeShare?: number;
  /** Joined members that had left, or had been kicked or banned and let in again, before they joined for good. */
  readonly rejoinedShare?: number;
  /** Changes of m.room.power_levels after the first. */
  readonly powerLevelChanges?: number;
  /** Changes of m.room.topic after the first. */
  readonly topicChanges?: number;
  /** The share of membership events and messages that have a sibling: two events on one parent, merged by the next. */
  readonly forkShare?: number;
  /** Joined users beside the members, on the same servers, whose events are made when they are asked for (crowd.ts). Not in versions 1 and 2. */
  readonly crowd?: number;
  /** What the local parts of the room's id and of its alias begin with; rooms of version 12 have it in the alias only. */
  readonly namesBegin?: string;
}

/**
 * A public room of some years. Departed users are fewer than in the oldest public rooms, so that the figures of a run
 * are those of the members it is named after.
 */
const ROOM_DEFAULTS = {
  leftShare: 0.06,
  bannedShare: 0.005,
  invitedShare: 0.005,
  profileChangeShare: 0.12,
  rejoinedShare: 0.02,
  powerLevelChanges: 12,
  topicChanges: 4,
  forkShare: 0.02,
  crowd: 0,
  namesBegin: '',
} as const;

/** A shape with nothing left open. */
export type WholeRoomShape = Required<RoomShape>;

/** Fills in what a shape leaves open. */
export function wholeRoomShape(shape: RoomShape): WholeRoomShape {
  return { ...ROOM_DEFAULTS, ...shape };
}
