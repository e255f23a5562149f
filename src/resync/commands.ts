/** What an operator may have done with one room, and what comes of it: decided from the fold of its journal alone. */
import { type ServerName } from '../matrix/identifiers.ts';
import { BANNED_MAX, PINNED_MAX, hasPlace } from './control.ts';
import { type ResyncEvent } from './events.ts';
import { isoTime } from './explain.ts';
import { type Directed } from './operator-events.ts';
import { type RoomPolicyChanges, changesNothing } from './room-policy.ts';
import { type ResyncState, isCancelled, isSeeking } from './state.ts';

export type RoomCommand =
  /** Residents are asked again now; of what an operator has cancelled nobody is. */
  | { readonly type: 'retry' }
  /** Likewise, and what was cancelled goes on. */
  | { readonly type: 'resume' }
  /** Nobody is asked any more, until an operator resumes it or somebody of us joins. */
  | { readonly type: 'cancel' }
  | { readonly type: 'pin-resident'; readonly resident: ServerName }
  | { readonly type: 'unpin-resident'; readonly resident: ServerName }
  | { readonly type: 'ban-resident'; readonly resident: ServerName }
  | { readonly type: 'unban-resident'; readonly resident: ServerName }
  | { readonly type: 'set-policy'; readonly policy: RoomPolicyChanges };

export type CommandName = RoomCommand['type'];

/** What each does, for people. */
export const COMMAND_SUMMARIES: Readonly<Record<CommandName, string>> = {
  retry: 'Ask residents again now, whatever is waited for; of a degraded room, for what it lacks.',
  resume: 'As retry, and take up a room again that was cancelled.',
  cancel: 'Ask nobody any more for the state of the room, until it is resumed or somebody of ours joins.',
  'pin-resident': 'Ask a server before all others.',
  'unpin-resident': 'Ask a server no longer before all others.',
  'ban-resident': 'Ask a server nothing about the room.',
  'unban-resident': 'Ask a server again that was banned.',
  'set-policy': 'Give the room policies of its own.',
};

/** What each is told, beside `by` and `reason`, which are for the journal; for people who write it by hand. */
export const COMMAND_FORMS: Readonly<Record<CommandName, string>> = {
  retry: 'JSON: {"by": "me", "reason": "why"}, or nothing.',
  resume: 'JSON: {"by": "me", "reason": "why"}, or nothing.',
  cancel: 'JSON: {"by": "me", "reason": "why"}, or nothing.',
  'pin-resident': 'JSON: {"resident": "example.org", "by": "me", "reason": "why"}.',
  'unpin-resident': 'JSON: {"resident": "example.org", "by": "me", "reason": "why"}.',
  'ban-resident': 'JSON: {"resident": "example.org", "by": "me", "reason": "why"}.',
  'unban-resident': 'JSON: {"resident": "example.org", "by": "me", "reason": "why"}.',
  'set-policy':
    'JSON: {"policy": {"given_up": "park", "give_up_after": "14d", "state_quorum": 2, "leave_during_resync": "abandon"}, "by": "me", "reason": "why"}, some of these policies; null: as in all rooms.',
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

const append = (event: ResyncEvent): CommandDecision => ({ type: 'append', event });
const unchanged = (because: string): CommandDecision => ({ type: 'unchanged', because });
const refused = (because: string): CommandDecision => ({ type: 'refused', because });

/** Pure. Everything that is said is a sentence without its stop, for the person who asked. */
export function decideCommand(
  state: ResyncState,
  command: RoomCommand,
  { ourServer, isBelievedIn }: RoomFacts,
  said: Directed,
): CommandDecision {
  const { control } = state;
  const { pinned, banned } = control;
  switch (command.type) {
    case 'retry':
    case 'resume':
      return decideResume(state, command.type, said);
    case 'cancel':
      return decideCancel(state, said);
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

const NOBODY_IN = 'nobody of this server is in the room';

function decideResume(state: ResyncState, wanted: 'retry' | 'resume', said: Directed): CommandDecision {
  switch (state.phase) {
    case 'absent':
    case 'ended':
      return refused(NOBODY_IN);
    case 'fetching':
      return unchanged(state.attempt === null ? 'residents are asked now' : `${state.attempt.resident} is asked now`);
    case 'walking':
      return unchanged('its state is here, and events are judged by it now');
    case 'parked':
      if (wanted === 'retry' && isCancelled(state)) {
        return refused(
          `it was stopped on purpose (${state.parked?.reason ?? 'nobody said why'}): resume takes it up again`,
        );
      }
      return append({ type: 'ResyncResumed', ...said });
    case 'waiting':
      return append({ type: 'ResyncResumed', ...said });
    case 'complete':
      if (!isSeeking(state)) return refused('the room is whole: there is nothing to ask for');
      return append({ type: 'ResyncResumed', ...said });
  }
}

function decideCancel(state: ResyncState, said: Directed): CommandDecision {
  const { by, reason, at } = said;
  switch (state.phase) {
    case 'absent':
    case 'ended':
      return refused(NOBODY_IN);
    case 'complete':
      return refused('the room is whole: there is nothing to cancel');
    case 'fetching':
    case 'waiting':
    case 'walking':
    case 'parked':
      if (isCancelled(state)) return unchanged('it is cancelled already');
      if (state.closesAt !== null) {
        return refused(`everybody of us has left: its last round ends by itself, at ${isoTime(state.closesAt)}`);
      }
      return append({
        type: 'ResyncParked',
        because: 'cancelled',
        reason: `cancelled by ${by}${reason === undefined ? '' : `: ${reason}`}`,
        at,
      });
  }
}
