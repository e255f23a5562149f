/** Why another server does not get what it asked of us as a resident: a kind that the edge translates, and a sentence. */
import { type JsonObject } from '../matrix/pdu.ts';

/**
 * - `unknown-room`: we cannot help with the room: nobody of ours is in it, or it is partial here;
 * - `forbidden`: the room's rules, or who the server is, do not let it pass;
 * - `unable-to-authorise`: whether the user may join a restricted room is not for us to tell;
 * - `unable-to-grant`: he may, and nobody of ours may let him in;
 * - `incompatible-version`: the server does not speak the room's version, or we do not; `details` name it;
 * - `missing`: what has to be told with it is not;
 * - `malformed`: it is no event, or not the one that it is said to be;
 * - `busy`: the room cannot take it now.
 */
export type ResidentErrorKind =
  | 'unknown-room'
  | 'forbidden'
  | 'unable-to-authorise'
  | 'unable-to-grant'
  | 'incompatible-version'
  | 'missing'
  | 'malformed'
  | 'busy';

export class ResidentError extends Error {
  override readonly name = 'ResidentError';
  readonly kind: ResidentErrorKind;
  /** Further members of the answer. */
  readonly details: JsonObject;

  constructor(kind: ResidentErrorKind, message: string, details: JsonObject = {}) {
    super(message);
    this.kind = kind;
    this.details = details;
  }
}
