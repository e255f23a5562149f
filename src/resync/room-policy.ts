/** Policies that one room may have otherwise than all: those of `resync:` in rejoinder.yaml that make sense for one. */

/**
 * What is done when the last of our users leaves a partial room:
 *
 * - `abandon`: residents are asked for one more round, a minute at the most;
 * - `finish_best_effort`: those that do not refuse are asked again and again, an hour at the most, so that who was in it may read it;
 * - `purge`: as `abandon`, and all that is held of the room is deleted some time later;
 * - `forbid_last_leave`: he does not leave, unless he insists; who is kicked or banned is out, as by `abandon`;
 * - `silent`: he is out here at once, and the room is told when its resync is done; who is kicked or banned is out, as by `abandon`.
 */
export const LEAVE_DURING_RESYNC = ['abandon', 'finish_best_effort', 'purge', 'forbid_last_leave', 'silent'] as const;
export type LeaveDuringResync = (typeof LEAVE_DURING_RESYNC)[number];

/** What is absent is as for all rooms. */
export interface RoomPolicy {
  /** What becomes of our users when it is given up. */
  readonly givenUp?: 'park' | 'leave';
  /** Since its first round failed, milliseconds. */
  readonly giveUpAfterMs?: number | 'never';
  /** Servers whose word on a join's state is compared. */
  readonly stateQuorum?: number;
  /** What is done when the last of our users leaves it while it is partial. */
  readonly leaveDuringResync?: LeaveDuringResync;
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
