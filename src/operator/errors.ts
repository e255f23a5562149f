/** The operator API's one table from what went wrong to status and errcode, and the body both travel in. */
import { type RoomErrorKind } from '../rooms/error.ts';

export interface ErrorAnswer {
  readonly status: number;
  readonly errcode: string;
}

/** Codes of the Matrix specification where it has one, `REJOINDER_…` where it has none. */
export const ROOM_ERROR_ANSWERS: Readonly<Record<RoomErrorKind, ErrorAnswer>> = {
  'unknown-alias': { status: 404, errcode: 'M_NOT_FOUND' },
  'unknown-room': { status: 404, errcode: 'M_NOT_FOUND' },
  'unknown-user': { status: 400, errcode: 'M_INVALID_PARAM' },
  forbidden: { status: 403, errcode: 'M_FORBIDDEN' },
  'no-resident': { status: 502, errcode: 'REJOINDER_NO_RESIDENT' },
  'unusable-answer': { status: 502, errcode: 'REJOINDER_UNUSABLE_ANSWER' },
  'unsupported-version': { status: 400, errcode: 'M_UNSUPPORTED_ROOM_VERSION' },
  busy: { status: 409, errcode: 'REJOINDER_BUSY' },
  invalid: { status: 400, errcode: 'M_INVALID_PARAM' },
};

/** A request that is refused before any port is asked. */
export class RequestError extends Error {
  readonly status: number;
  readonly errcode: string;

  constructor(status: number, errcode: string, message: string) {
    super(message);
    this.name = 'RequestError';
    this.status = status;
    this.errcode = errcode;
  }
}

export function invalidParam(message: string): RequestError {
  return new RequestError(400, 'M_INVALID_PARAM', message);
}
