/**
 * The journal's words, put to people: each control event as a sentence for the operator API, and a whole resync in a few
 * lines of Markdown, which the Temporal UI shows as the workflow's current details.
 */
import { type MissingEvents, type UnusableEvents } from './degraded.ts';
import { REASON_IN_WORDS } from './choice.ts';
import { type AttemptCost, type StateComparison } from './attempts.ts';
import { type ResyncEvent } from './events.ts';
import { type Directed } from './operator-events.ts';
import { outcomeOf } from './outcomes.ts';
import { type RoomPolicyChanges } from './room-policy.ts';
import { type ResyncState } from './state.ts';

/** Names in one sentence. */
const NAMED_MAX = 3;

/** A time as people and JSON have it, ISO 8601 in UTC. */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

/** What was decided, and why, as one sentence; names and reasons in it are a stranger's words. */
export function explain(event: ResyncEvent): string {
  switch (event.type) {
    case 'PartialStateJoined':
      return `${event.userId} joined via ${event.joinedVia} without the room's memberships; servers said to be in the room: ${event.serversInRoom.length}${lacking(event.lacking)}`;
    case 'FullStateJoined':
      return `${event.userId} joined via ${event.joinedVia} with the whole state: ${event.members} members${lacking(event.lacking)}`;
    case 'RoomCreated':
      return `${event.userId} created the room`;
    case 'ResidentsLearned':
      return `A further join via ${event.joinedVia}; servers said to be in the room: ${event.serversInRoom.length}`;
    case 'ParentsLearned':
      return `${event.userId} joined too, via ${event.joinedVia}, with the whole state; parents of the join that were not held: ${event.anchors.length}`;
    case 'SpeakersLearned':
      return `Servers that speak in the room: ${event.servers.slice(0, NAMED_MAX).join(', ')}`;
    case 'StateFetchStarted': {
      const where =
        event.atJoin === true ? `the join that cites ${event.atEventId}, which nobody knows` : event.atEventId;
      const why = event.because === undefined ? '' : `, ${REASON_IN_WORDS[event.because]},`;
      return `Attempt ${event.attemptNo}: asked ${event.resident}${why} for the state before ${where}`;
    }
    case 'StateFetchFailed': {
      const retry = event.retryAt === undefined ? '' : `; it wants to be left alone until ${isoTime(event.retryAt)}`;
      const { attemptNo, resident, failure, outcome = outcomeOf(failure), reason } = event;
      return `Attempt ${attemptNo} at ${resident} failed (${outcome}: ${failure}${cost(event)}): ${reason}${retry}`;
    }
    case 'StateFetchHindered':
      return `Attempt ${event.attemptNo} at ${event.resident} is hindered by trouble of this server, and goes on: ${event.reason}`;
    case 'StateFetched': {
      const { state, members, fetched, alreadyHeld, dropped, unusable } = event.counts;
      return `${event.resident} gave the state: ${state} events, ${members} members; ${fetched} fetched, ${alreadyHeld} held before, ${dropped} dropped${badCopies(unusable)}${cost(event)}${compared(event.compared)}${lacking(event.missing)}`;
    }
    case 'RoundFailed':
      return `Round ${event.round}: every server failed (${event.reason}); the next round starts at ${isoTime(event.wakeAt)}`;
    case 'ResidentBack':
      return event.because === 'answers'
        ? `${event.resident} can be reached again, and is asked`
        : `${event.resident} has sent something for the room, and is asked`;
    case 'RoomOrphaned':
      return 'No server is left in the room but this one, and none of those that left gave its state: what is known of it stands for all of it';
    case 'ResyncParked':
      return `Parked (${event.because}): ${event.reason}${event.leaves === true ? '; the users of this server leave the room' : ''}`;
    case 'ResyncResumed':
      return `Resumed: residents are asked again now${event.by === undefined ? '' : directed({ ...event, by: event.by })}`;
    case 'ResidentPinned':
      return `${event.resident} is pinned: it is asked before all others${directed(event)}`;
    case 'PinLifted':
      return `${event.resident} is pinned no more${directed(event)}`;
    case 'ResidentBanned':
      return `${event.resident} is banned: it is asked nothing about the room${directed(event)}`;
    case 'BanLifted':
      return `${event.resident} is banned no more${directed(event)}`;
    case 'RoomPolicySet':
      return `The room has policies of its own: ${policyChanges(event.policy)}${directed(event)}`;
    case 'CommandRefused':
      return `The command ${event.command} was refused, and nothing is changed: ${event.because}${directed(event)}`;
    case 'EventsWalked':
      return `Events judged again with full state: ${event.walked}; corrected: ${event.corrected}; left: ${event.remaining}`;
    case 'Check6Replayed': {
      const lifted = event.lifted === 0 ? '' : `, and ${event.lifted} no longer`;
      const again =
        event.begun === 1 ? '' : `; begun ${event.begun} times, since verdicts and states below had changed`;
      return `Check 6 was made again up to position ${event.position}: ${event.softFailed} events are soft-failed${lifted}${again}`;
    }
    case 'ResyncCompleted':
      return event.lacking === undefined
        ? `The room is whole: ${event.members} members`
        : `The room is degraded: ${event.members} members, and ${lackedInAll(event.lacking)}`;
    case 'JoinRejected':
      return `The full state does not let ${event.userId} in: ${event.reason} (${event.rule})`;
    case 'JoinRestored':
      return `The state lets ${event.userId} in after all`;
    case 'EverybodyLeft':
      return `The last user of this server has left: ${event.goesOn === true ? 'residents that do not refuse are asked again' : 'residents are asked'} until ${isoTime(event.until)} at the latest${event.purgeAt === undefined ? '' : `; the room is purged at ${isoTime(event.purgeAt)}`}`;
    case 'LeftSilently':
      return `${event.userId} has left here; others are told when the resync is done`;
    case 'SilentLeaveSettled':
      return event.because === 'returned'
        ? `${event.userId} is back before others were told`
        : `${event.userId} is out of the room`;
    case 'StayEnded':
      return 'Nobody of this server is in the room any more';
    case 'RoomPurged':
      return `The room was purged: nothing is left of it here, nor of the ${event.entries} entries about it`;
    case 'GapsAssumed':
      return `The state of what is judged stands for the one at ${event.eventIds.length} gaps that are still open`;
    case 'GapOpened': {
      const meanwhile =
        event.assumedState === null ? 'events that cite them wait' : 'events that cite them are judged provisionally';
      return `A gap before events of ${event.origin}: parents that nobody gave us: ${event.eventIds.length}, ${event.eventIds[0] ?? 'none'} first; the state there is asked for, and ${meanwhile}`;
    }
    case 'GapClosed':
      return `${event.resident} gave the state at the gap ${event.eventId}: ${event.counts.state} events, ${event.counts.members} members, ${event.counts.dropped} dropped${badCopies(event.counts.unusable)}${lacking(event.missing)}${lackedHere(event.lackedHere)}`;
    case 'GapFilled':
      return `The gap ${event.eventId} is filled: the event came, and has its place`;
    case 'GapGivenUp':
      return `The gap ${event.eventId} is given up: ${event.reason}`;
    case 'AnchorCorrected': {
      const why = event.because === 'found' ? 'what it lacked was found' : 'verdicts on its events are others now';
      return `The state at ${event.eventId} is corrected, since ${why}: ${event.putIn.length} events put in, ${event.takenOut.length} taken out`;
    }
    case 'EventsCorrected':
      return `Events looked at again after a correction: ${event.judged}; changed: ${event.changed}; left: ${event.remaining}`;
    case 'MissingSought':
      return `What the state lacks was asked for again: ${event.found} found, ${event.left} missing still${event.leftAtGaps === undefined ? '' : `, and ${event.leftAtGaps} of states at gaps`}${event.wakeAt === null ? '' : `; next at ${isoTime(event.wakeAt)}`}`;
  }
}

/** Whose decision it was, and why. */
function directed({ by, reason }: Pick<Directed, 'by' | 'reason'>): string {
  return ` (by ${by}${reason === undefined ? '' : `: ${reason}`})`;
}

function policyChanges({ givenUp, giveUpAfterMs, stateQuorum, leaveDuringResync: leave }: RoomPolicyChanges): string {
  const after = typeof giveUpAfterMs === 'number' ? `${giveUpAfterMs / 3_600_000} hours` : giveUpAfterMs;
  const changes = { given_up: givenUp, give_up_after: after, state_quorum: stateQuorum, leave_during_resync: leave };
  const told = Object.entries(changes).filter(([, value]) => value !== undefined);
  return told.map(([name, value]) => `${name} ${value ?? 'as in all rooms'}`).join(', ');
}

/** Nobody counts what no server is left to name. */
function lackedInAll(count: number): string {
  return count === 0 ? 'nobody is left to tell its whole state' : `${count} events of the state could not be had`;
}

/** What the last request of an attempt was, and what all of it took, as far as that was kept. */
function cost({ endpoint, bytes, tookMs }: AttemptCost): string {
  const parts = [
    ...(endpoint === undefined ? [] : [`/${endpoint}`]),
    ...(bytes === undefined ? [] : [`${bytes} bytes`]),
    ...(tookMs === undefined ? [] : [`${(tookMs / 1000).toFixed(1)} s`]),
  ];
  return parts.map((part) => `, ${part}`).join('');
}

function compared(comparison: StateComparison | undefined): string {
  if (comparison === undefined) return '';
  const { wanted, residents, differing } = comparison;
  if (residents.length === 1) {
    return `; compared with none of the ${wanted - 1} servers that were to be: nobody gave it in time`;
  }
  const fewer = residents.length < wanted ? `, where ${wanted - 1} were to be` : '';
  const found = differing === 0 ? 'they agree' : `${differing} places differ, and were resolved`;
  return `; compared with that of ${residents.slice(1).join(', ')}${fewer}: ${found}`;
}

function badCopies(unusable: UnusableEvents | undefined, shown = (eventId: string): string => eventId): string {
  if (unusable === undefined) return '';
  const named = unusable.listed.map(
    ({ eventId, why, from }) => `${shown(eventId)}: ${why}, as ${from.join(', ')} gave it`,
  );
  return `, ${unusable.count} of them for want of a copy that can be used (${named.join('; ')})`;
}

function lacking(missing: MissingEvents | undefined): string {
  return missing === undefined ? '' : `; degraded: ${lacked(missing)}`;
}

function lackedHere(missing: MissingEvents | undefined): string {
  return missing === undefined ? '' : `; this state lacks what no other server names: ${lacked(missing)}`;
}

function lacked({ listed, count, fell }: MissingEvents): string {
  const named = listed.slice(0, NAMED_MAX).map(({ eventId, why }) => `${eventId}: ${why}`);
  return `${count} events could not be had (${named.join(', ')}), and ${fell} fell with them`;
}

/** A stranger's words, which must not become links or headings where Markdown is shown. */
const quoted = (text: string): string => `\`${text.replaceAll('`', "'")}\``;

/** Where a resync stands and what it took so far, as Markdown. */
export function describeResync(state: ResyncState): string {
  const lines = [`**${headline(state)}**`];
  if (state.joinedVia !== null && state.joinedAt !== null) {
    lines.push(
      `Joined via ${state.joinedVia} at ${isoTime(state.joinedAt)}; ${state.candidates.length} servers may be asked.`,
    );
  }
  if (state.closesAt !== null) {
    lines.push(`Nobody of this server is in the room any more: the last round ends at ${isoTime(state.closesAt)}.`);
  }
  const { pinned, banned, policy } = state.control;
  if (pinned.length > 0) lines.push(`Pinned by an operator, and asked first: ${pinned.join(', ')}.`);
  if (banned.length > 0) lines.push(`Banned by an operator, and never asked: ${banned.join(', ')}.`);
  if (Object.keys(policy).length > 0) lines.push(`Policies of its own: ${policyChanges(policy)}.`);
  if (state.attempts > 0) lines.push(`Attempts: ${state.attempts}, round ${state.round}.`);
  if (state.lastFetch !== null) {
    const { state: events, authChain, fetched, alreadyHeld, dropped, unusable } = state.lastFetch;
    lines.push(
      `State: ${events} events, auth chain ${authChain}; ${fetched} fetched, ${alreadyHeld} held before, ${dropped} dropped${badCopies(unusable, quoted)}.`,
    );
  }
  if (state.gapsOpen > 0) lines.push(`Gaps at which the state is looked for: ${state.gapsOpen}.`);
  if (state.degraded !== null) {
    const { missing, count, found, fell, since, isOrphaned } = state.degraded;
    if (isOrphaned === true) {
      lines.push(`No server is left in the room but this one, since ${isoTime(since)} at the latest.`);
    }
    const named = missing.map(({ eventId, why }) => `${quoted(eventId)} (${why})`).join(', ');
    if (count > 0) {
      lines.push(
        `Degraded since ${isoTime(since)}: ${count} events of the state could not be had, ${found} of them were found later, ${fell} fell with them: ${named}.`,
      );
    }
  }
  if (state.walked > 0) lines.push(`Events judged again: ${state.walked}, corrected: ${state.corrected}.`);
  if (state.lastFailure !== null) {
    const { resident, outcome, reason, at } = state.lastFailure;
    lines.push(`Last failure: ${resident}, ${outcome}: ${quoted(reason)} (${isoTime(at)}).`);
  }
  return lines.join('\n\n');
}

function headline(state: ResyncState): string {
  switch (state.phase) {
    case 'absent':
      return 'Nothing to do: the room has no resync';
    case 'fetching':
      return state.attempt === null ? 'Choosing a resident' : `Fetching state from ${state.attempt.resident}`;
    case 'waiting':
      return `Waiting until ${state.nextWakeAt === null ? 'rung' : isoTime(state.nextWakeAt)}: every resident failed`;
    case 'parked':
      return `Parked since ${isoTime(state.parked?.at ?? 0)}: ${state.parked === null ? '' : quoted(state.parked.reason)}`;
    case 'walking':
      return 'Judging partial events with full state';
    case 'complete':
      return state.degraded === null
        ? `Complete: ${state.members ?? 0} members`
        : `Degraded: ${state.members ?? 0} members, and ${lackedInAll(state.degraded.count)}`;
    case 'ended':
      return state.refusedJoin === null
        ? 'Over'
        : `Over: the full state does not let us in (${quoted(state.refusedJoin)})`;
  }
}
