/** What an operator may have done with one room, and what comes of it: decided from the fold of its journal alone. */
import { type ServerName } from '../matrix/identifiers.ts';
import { BANNED_MAX, PINNED_MAX, hasPlace } from './control.ts';
import { type ResyncEvent } from './events.ts';
import { type Directed } from './operator-events.ts';
import { type RoomPolicyChanges, changesNothing } from './room-policy.ts';
import { type ResyncState } from './state.ts';

export type RoomCommand =
  | { readonly type: 'pin-resident'; readonly resident: ServerName }
  | { readonly type: 'unpin-resident'; readonly resident: ServerName }
  | { readonly type: 'ban-resident'; readonly resident: ServerName }
  | { readonly type: 'unban-resident'; readonly resident: ServerName }
  | { readonly type: 'set-policy'; readonly policy: RoomPolicyChanges };

export type CommandName = RoomCommand['type'];

/** What each does, for people. */
export const COMMAND_SUMMARIES: Readonly<Record<CommandName, string>> = {
  'pin-resident': 'Ask a server before all others.',
  'unpin-resident': 'Ask a server no longer before all others.',
  'ban-resident': 'Ask a server nothing about the room.',
  'unban-resident': 'Ask a server again that was banned.',
  'set-policy': 'Give the room policies of its own.',
};

export type CommandDecision =
  | { readonly type: 'append'; readonly event: ResyncEvent }
  /** It is so already. */
  | { readonly type: 'unchanged'; readonly because: string }
  /** It cannot be. */
  | { readonly type: 'refused'; readonly because: string };

/** What is known of the room beside its fold. */
export interface RoomFacts {
  readonly ourServer: ServerName;
  /** Whether the server that is named is believed to be in the room. */
  readonly isBelievedIn: boolean;
}

/** Pure. Everything that is said is a sentence without its stop, for the person who asked. */
export function decideCommand(
  { control }: ResyncState,
  command: RoomCommand,
  { ourServer, isBelievedIn }: RoomFacts,
  said: Directed,
): CommandDecision {
  const { pinned, banned } = control;
  const unchanged = (because: string): CommandDecision => ({ type: 'unchanged', because });
  const refused = (because: string): CommandDecision => ({ type: 'refused', because });
  const append = (event: ResyncEvent): CommandDecision => ({ type: 'append', event });
  switch (command.type) {
    case 'pin-resident': {
      const { resident } = command;
      if (pinned.includes(resident)) return unchanged(`${resident} is pinned already`);
      if (banned.includes(resident)) return refused(`${resident} is banned from being asked: lift the ban first`);
      if (!isBelievedIn) {
        return refused(`${resident} is not known to be in the room: only a server that is may be pinned`);
      }
      if (!hasPlace('pinned', pinned, resident)) {
        return refused(`there is no place for another pin (${PINNED_MAX} at most): lift one of ${pinned.join(', ')}`);
      }
      return append({ type: 'ResidentPinned', resident, ...said });
    }
    case 'unpin-resident': {
      const { resident } = command;
      if (!pinned.includes(resident)) return unchanged(`${resident} is not pinned`);
      return append({ type: 'PinLifted', resident, ...said });
    }
    case 'ban-resident': {
      const { resident } = command;
      if (banned.includes(resident)) return unchanged(`${resident} is banned already`);
      if (resident === ourServer) return refused(`${resident} is this server, which is never asked`);
      if (!hasPlace('banned', banned, resident)) {
        return refused(`there is no place for another ban (${BANNED_MAX} at most): lift one of ${banned.join(', ')}`);
      }
      return append({ type: 'ResidentBanned', resident, ...said });
    }
    case 'unban-resident': {
      const { resident } = command;
      if (!banned.includes(resident)) return unchanged(`${resident} is not banned`);
      return append({ type: 'BanLifted', resident, ...said });
    }
    case 'set-policy': {
      const { policy } = command;
      if (changesNothing(control.policy, policy)) return unchanged('the room has this policy already');
      return append({ type: 'RoomPolicySet', policy, ...said });
    }
  }
}
