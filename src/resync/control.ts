/**
 * What operators have said of a room: servers that are asked first, servers that are never asked, and policies of its own. It
 * outlasts stays: a join that opens the next one carries it on.
 */
import { type ServerName } from '../matrix/identifiers.ts';
import { type OperatorEvent } from './operator-events.ts';
import { type RoomPolicy, changedPolicy } from './room-policy.ts';

export interface RoomControl {
  /** The first is asked first. */
  readonly pinned: readonly ServerName[];
  readonly banned: readonly ServerName[];
  readonly policy: RoomPolicy;
}

export const noControl: RoomControl = { pinned: [], banned: [], policy: {} };

/** Of either, and characters of their names: they are in the state, which travels. */
export const PINNED_MAX = 5;
export const BANNED_MAX = 20;
const PINNED_CHARS_MAX = 400;
const BANNED_CHARS_MAX = 800;

/** Whether there is a place for one more, beside those that are pinned or banned. */
export function hasPlace(among: 'pinned' | 'banned', names: readonly ServerName[], name: ServerName): boolean {
  const [countMax, charsMax] = among === 'pinned' ? [PINNED_MAX, PINNED_CHARS_MAX] : [BANNED_MAX, BANNED_CHARS_MAX];
  const chars = names.reduce((sum, one) => sum + one.length, name.length);
  return names.length < countMax && chars <= charsMax;
}

/** With one more decision. Total: one for which there is no place changes nothing. */
export function controlled(control: RoomControl, event: OperatorEvent): RoomControl {
  const { pinned, banned, policy } = control;
  switch (event.type) {
    case 'ResidentPinned':
      if (pinned.includes(event.resident) || !hasPlace('pinned', pinned, event.resident)) return control;
      return { ...control, pinned: [...pinned, event.resident] };
    case 'PinLifted':
      return { ...control, pinned: pinned.filter((name) => name !== event.resident) };
    case 'ResidentBanned':
      if (banned.includes(event.resident) || !hasPlace('banned', banned, event.resident)) return control;
      return {
        ...control,
        pinned: pinned.filter((name) => name !== event.resident),
        banned: [...banned, event.resident],
      };
    case 'BanLifted':
      return { ...control, banned: banned.filter((name) => name !== event.resident) };
    case 'RoomPolicySet':
      return { ...control, policy: changedPolicy(policy, event.policy) };
    case 'CommandRefused':
      return control;
  }
}

/** Those of the servers that may be asked. */
export function notBanned(
  { banned }: Pick<RoomControl, 'banned'>,
  names: readonly ServerName[],
): readonly ServerName[] {
  return banned.length === 0 ? names : names.filter((name) => !banned.includes(name));
}

/** As a join carries it into the next stay; nothing where nobody has said anything. */
export function carriedControl(control: RoomControl): { readonly control?: RoomControl } {
  const { pinned, banned, policy } = control;
  return pinned.length + banned.length + Object.keys(policy).length === 0 ? {} : { control };
}
