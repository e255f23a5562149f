/**
 * Who types in a room, decided from who did and what was said since. Pure.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#typing-notifications and https://spec.matrix.org/v1.16/server-server-api/#typing-notifications
 */
import { type UserId, domainOf } from '../matrix/identifiers.ts';
import { type Typist } from '../store/tables/typing.ts';

/** Shown as typing in one room at a time; who comes when so many do is not. */
export const TYPISTS_MAX = 50;
/** Whoever types on says so again before that is over; of users of other servers nothing else is said. */
export const TYPES_MS_MAX = 60_000;
/** Other servers forget who types, and are told again when so much of that time is over. */
const TELL_AGAIN_MS = 30_000;

/** What was said of a user: until when he types, milliseconds since the Unix epoch; null: he does not. */
export interface TypingSaid {
  readonly userId: UserId;
  readonly until: number | null;
}

/** Of a user of this server, what other servers are to be told. */
export interface TypingToTell {
  readonly userId: UserId;
  readonly isTyping: boolean;
}

export interface TypingNow {
  readonly typists: readonly Typist[];
  /** It is another list of users than before. */
  readonly isChanged: boolean;
  readonly toTell: readonly TypingToTell[];
}

/** @param now milliseconds since the Unix epoch */
export function typingNow(
  before: readonly Typist[],
  said: readonly TypingSaid[],
  { now, serverName }: { readonly now: number; readonly serverName: string },
): TypingNow {
  const typists = new Map(before.map((typist) => [typist.userId, typist]));
  for (const { userId, until } of said) {
    const known = typists.get(userId);
    if (until === null) typists.delete(userId);
    else if (known !== undefined) typists.set(userId, { ...known, until });
    else if (typists.size < TYPISTS_MAX) typists.set(userId, { userId, until, toldAt: 0 });
  }
  const toTell: TypingToTell[] = [];
  for (const [userId, typist] of typists) {
    if (typist.until <= now) {
      typists.delete(userId);
    } else if (domainOf(userId) === serverName && typist.toldAt + TELL_AGAIN_MS <= now) {
      typists.set(userId, { ...typist, toldAt: now });
      toTell.push({ userId, isTyping: true });
    }
  }
  const gone = before.filter(({ userId }) => !typists.has(userId));
  for (const { userId } of gone) if (domainOf(userId) === serverName) toTell.push({ userId, isTyping: false });
  return {
    typists: [...typists.values()],
    isChanged: gone.length > 0 || typists.size !== before.length,
    toTell,
  };
}
