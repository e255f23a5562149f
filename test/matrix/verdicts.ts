/** Expectations of the auth rules over many room versions at once. */
import { expect } from 'vitest';
import { authorise } from '../../src/matrix/auth/auth-rules.ts';
import { type AuthState } from '../../src/matrix/auth/auth-verdict.ts';
import { type Pdu } from '../../src/matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { room, rulesOf } from './room-of-tests.ts';

export const ALL = ROOM_VERSIONS;
export const from = (first: number): string[] => ALL.filter((version) => Number(version) >= first);
export const until = (last: number): string[] => ALL.filter((version) => Number(version) <= last);

/** A room with its creator joined, and what else is given. */
export const withMembers =
  (...events: Pdu[]) =>
  (version: string): AuthState =>
    room(version, ...events);

/** Expects the rule to refuse, or `allowed`, in each of the versions. */
export function expectVerdict(
  versions: readonly string[],
  verdict: string,
  judged: Pdu | ((version: string) => Pdu),
  state: (version: string) => AuthState,
): void {
  for (const version of versions) {
    const subject = typeof judged === 'function' ? judged(version) : judged;
    const answer = authorise(subject, state(version), rulesOf(version));
    expect([version, answer.ok ? 'allowed' : answer.rule]).toEqual([version, verdict]);
  }
}
