/** Policies that one room may have otherwise than all: those of `resync:` in rejoinder.yaml that make sense for one. */

/** What is absent is as for all rooms. */
export interface RoomPolicy {
  /** What becomes of our users when it is given up. */
  readonly givenUp?: 'park' | 'leave';
  /** Since its first round failed, milliseconds. */
  readonly giveUpAfterMs?: number | 'never';
  /** Servers whose word on a join's state is compared. */
  readonly stateQuorum?: number;
}

/** What is to be otherwise; `null`: as for all rooms again. */
export type RoomPolicyChanges = { readonly [Key in keyof RoomPolicy]?: RoomPolicy[Key] | null };

/** The policy of a room with its changes. */
export function changedPolicy(policy: RoomPolicy, changes: RoomPolicyChanges): RoomPolicy {
  const all = Object.entries({ ...policy, ...changes });
  return Object.fromEntries(all.filter(([, value]) => value !== null));
}

/** Whether a room has all of it already. */
export function changesNothing(policy: RoomPolicy, changes: RoomPolicyChanges): boolean {
  const had: Readonly<Record<string, unknown>> = { ...policy };
  return Object.entries(changes).every(([key, value]) => (value ?? undefined) === had[key]);
}
