/** What a join that nobody could give is told as. */
import { FederationError, isRefusal } from '../../federation/error.ts';
import { type RoomId } from '../../matrix/identifiers.ts';
import { type FailureClass } from '../../resync/events.ts';
import { RoomError, type RoomErrorKind } from '../error.ts';

/** Refusals of the user, then what is wrong with the room for us, then useless answers. Silence tells least. */
const TELLING: readonly RoomErrorKind[] = ['forbidden', 'unsupported-version', 'unusable-answer'];
const KINDS: Readonly<Partial<Record<FailureClass, RoomErrorKind>>> = {
  forbidden: 'forbidden',
  'incompatible-version': 'unsupported-version',
  malformed: 'unusable-answer',
  'too-large': 'unusable-answer',
};

/**
 * One error of all failures, in the words of all of them: of the kind that tells most.
 *
 * @param isUnclear whether a resident may have taken a join, so that it may still come about
 */
export function summarise(roomId: RoomId, failures: readonly Error[], isUnclear: boolean): RoomError {
  const kind = TELLING.find((telling) => failures.some((failure) => kindOf(failure) === telling)) ?? 'no-resident';
  const cause = failures.find((failure) => kindOf(failure) === kind) ?? failures[0];
  const told = failures.map(({ message }) => message).join('; ');
  const lost = isUnclear ? '; a resident may have taken the join, which is tried again' : '';
  const patience = failures.flatMap((failure) =>
    failure instanceof FederationError && failure.retryAfterMs !== undefined ? [failure.retryAfterMs] : [],
  );
  return new RoomError(kind, `${headOf(kind, roomId)}: ${told}${lost}`, {
    ...(cause === undefined ? {} : { cause }),
    ...(kind === 'no-resident' && patience.length > 0 ? { retryAfterMs: Math.min(...patience) } : {}),
  });
}

function kindOf(failure: Error): RoomErrorKind | undefined {
  if (failure instanceof RoomError) return failure.kind;
  if (!(failure instanceof FederationError)) return undefined;
  // A proxy's 403 says nothing of the user.
  return failure.kind === 'forbidden' && !isRefusal(failure) ? undefined : KINDS[failure.kind];
}

function headOf(kind: RoomErrorKind, roomId: RoomId): string {
  if (kind === 'forbidden') return `joining ${roomId} was refused`;
  if (kind === 'unsupported-version') return `${roomId} is of a room version that we do not speak`;
  return `no resident could join us to ${roomId}`;
}
