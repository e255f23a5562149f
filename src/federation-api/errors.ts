/** The federation API's one table from what went wrong in a use case to status and errcode. */
import { MatrixError } from '../http/matrix-error.ts';
import { RoomError, type RoomErrorKind } from '../rooms/error.ts';
import { ResidentError, type ResidentErrorKind } from '../rooms/resident-error.ts';

type ErrorAnswer = readonly [status: number, errcode: string];

/** Source: https://spec.matrix.org/v1.16/server-server-api/#joining-rooms */
const RESIDENT_ERROR_ANSWERS: Readonly<Record<ResidentErrorKind, ErrorAnswer>> = {
  'unknown-room': [404, 'M_NOT_FOUND'],
  forbidden: [403, 'M_FORBIDDEN'],
  'unable-to-authorise': [400, 'M_UNABLE_TO_AUTHORISE_JOIN'],
  'unable-to-grant': [400, 'M_UNABLE_TO_GRANT_JOIN'],
  'incompatible-version': [400, 'M_INCOMPATIBLE_ROOM_VERSION'],
  missing: [400, 'M_MISSING_PARAM'],
  malformed: [400, 'M_BAD_JSON'],
  // Another time, or another resident, may do.
  busy: [503, 'M_UNKNOWN'],
};

const ROOM_ERROR_ANSWERS: Readonly<Partial<Record<RoomErrorKind, ErrorAnswer>>> = {
  'unknown-room': [404, 'M_NOT_FOUND'],
  'unknown-alias': [404, 'M_NOT_FOUND'],
  invalid: [400, 'M_INVALID_PARAM'],
  forbidden: [403, 'M_FORBIDDEN'],
  malformed: [400, 'M_BAD_JSON'],
  'too-large': [413, 'M_TOO_LARGE'],
  busy: [503, 'M_UNKNOWN'],
  // The server of whom an exchanged invite is for does not sign it.
  'no-resident': [502, 'M_UNKNOWN'],
  'unusable-answer': [502, 'M_UNKNOWN'],
  'unsupported-version': [400, 'M_INCOMPATIBLE_ROOM_VERSION'],
};

/** What other servers are answered where a use case failed; `undefined`: it is a fault of ours. */
export function translateError(error: unknown): MatrixError | undefined {
  if (error instanceof ResidentError) {
    return new MatrixError(...RESIDENT_ERROR_ANSWERS[error.kind], error.message, error.details);
  }
  const answer = error instanceof RoomError ? ROOM_ERROR_ANSWERS[error.kind] : undefined;
  return answer && new MatrixError(...answer, (error as RoomError).message);
}
