/**
 * What a use case on rooms answers when it cannot do what was asked: a kind that edges translate into a status, and a
 * sentence for the person who asked. Nothing here knows HTTP.
 */

/**
 * - `unknown-alias`: the alias's server does not know it;
 * - `alias-in-use`: it means another room already;
 * - `unknown-room`: we hold nothing about the room, or not the event or the state of it;
 * - `unknown-event`: nothing is known under that event id;
 * - `unknown-user`: the user is not one of this server's;
 * - `parked`: it needs the room's full state, which nobody is asked for any more until somebody resumes it;
 * - `inapplicable`: what an operator wants cannot be done with the room as it is;
 * - `forbidden`: the room's rules or the residents refuse it (banned, invite only);
 * - `no-resident`: no server that was asked could help; trying later may work;
 * - `unusable-answer`: residents answered, and no answer passed the checks;
 * - `unsupported-version`: the room's version is not one of ours;
 * - `busy`: the same thing is under way for this room;
 * - `last-leave`: the room is partial, and is not to be left by the last of our users before it is whole;
 * - `needs-force`: users of this server would be put out of the room;
 * - `too-many`: as much of this is under way as this server does at a time;
 * - `malformed`: no event can be made of it;
 * - `too-large`: the event would have more bytes than an event may;
 * - `invalid`: the request contradicts itself.
 */
export type RoomErrorKind =
  | 'unknown-alias'
  | 'alias-in-use'
  | 'unknown-room'
  | 'unknown-event'
  | 'unknown-user'
  | 'parked'
  | 'inapplicable'
  | 'forbidden'
  | 'no-resident'
  | 'unusable-answer'
  | 'unsupported-version'
  | 'busy'
  | 'last-leave'
  | 'needs-force'
  | 'too-many'
  | 'malformed'
  | 'too-large'
  | 'invalid';

export class RoomError extends Error {
  readonly kind: RoomErrorKind;
  /** How long to wait before asking again, when that is known. */
  readonly retryAfterMs: number | undefined;

  constructor(kind: RoomErrorKind, message: string, options: { cause?: unknown; retryAfterMs?: number } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'RoomError';
    this.kind = kind;
    this.retryAfterMs = options.retryAfterMs;
  }
}
