/** The operator API's answers: the domain's shapes in JSON names, times as ISO 8601. */
import { type z } from 'zod';
import { type ServerName } from '../matrix/identifiers.ts';
import { type RoomControl } from '../resync/control.ts';
import { type UnusableEvents } from '../resync/degraded.ts';
import { type Journalled, type ResyncEvent } from '../resync/events.ts';
import { explain, isoTime } from '../resync/explain.ts';
import { type OperatorEvent } from '../resync/operator-events.ts';
import { type ResyncState, shownPhase } from '../resync/state.ts';
import { writtenPolicy } from '../rooms/command-contract.ts';
import type * as forms from './answer-forms.ts';
import { type JoinedRoom, type Member, type RoomDescription, type RoomOverview } from '../rooms/contract.ts';

/** Of a form of answer-forms.ts. */
type Answer<Name extends keyof typeof forms> = z.input<(typeof forms)[Name]>;

const iso = (ms: number | null): string | null => (ms === null ? null : isoTime(ms));

/** The answer to a join. */
export function joinAnswer(joined: JoinedRoom): Answer<'joinAnswer'> {
  return {
    room_id: joined.roomId,
    event_id: joined.eventId,
    joined_via: joined.joinedVia,
    partial: joined.partial,
    members_omitted: joined.membersOmitted,
    timings_ms: joined.timingsMs,
  };
}

/** A room as the list of rooms has it. */
export function roomAnswer(room: RoomOverview): Answer<'roomsAnswer'>['rooms'][number] {
  const { roomId, epoch, name, canonicalAlias, membersKnown, resync } = room;
  return {
    room_id: roomId,
    name,
    canonical_alias: canonicalAlias,
    epoch,
    room_version: resync.roomVersion,
    joined_via: resync.joinedVia,
    joined_at: iso(resync.joinedAt),
    members_known: membersKnown,
    ...progressAnswer(resync),
  };
}

/** How far a resync is; also part of the answer to a caller who is told to come back. */
export function progressAnswer(resync: ResyncState) {
  const { lastFailure, lastFetch } = resync;
  return {
    phase: shownPhase(resync),
    resident: resync.attempt?.resident ?? null,
    servers: resync.candidates.length,
    attempts: resync.attempts,
    round: resync.round,
    states_to_fetch: resync.fetchAt.length,
    fetched:
      lastFetch === null
        ? null
        : {
            state_events: lastFetch.state,
            auth_chain_events: lastFetch.authChain,
            members: lastFetch.members,
            fetched: lastFetch.fetched,
            already_held: lastFetch.alreadyHeld,
            dropped: lastFetch.dropped,
          },
    unusable: unusableAnswer(lastFetch?.unusable),
    walked: resync.walked,
    corrected: resync.corrected,
    members: resync.members,
    digest: resync.digest,
    next_wake_at: iso(resync.nextWakeAt),
    completed_at: iso(resync.completedAt),
    degraded: degradedAnswer(resync.degraded),
    parked: parkedAnswer(resync.parked),
    last_failure:
      lastFailure === null
        ? null
        : {
            resident: lastFailure.resident,
            outcome: lastFailure.outcome,
            failure: lastFailure.failure,
            reason: lastFailure.reason,
            at: isoTime(lastFailure.at),
          },
  };
}

/** Events of which every copy that came was bad, the first few by name; `null`: there are none. */
function unusableAnswer(unusable: UnusableEvents | undefined) {
  if (unusable === undefined) return null;
  const { listed, count } = unusable;
  return {
    events: count,
    first: listed.map(({ eventId, why, from }) => ({ event_id: eventId, why, from: [...from] })),
  };
}

/** What the state lacks, where it could not be had whole; `null`: nothing. */
function degradedAnswer(degraded: ResyncState['degraded']) {
  if (degraded === null) return null;
  const { missing, count, found, fell, since, isOrphaned = false } = degraded;
  return {
    missing_events: count,
    orphaned: isOrphaned,
    found_later: found,
    fell_with_them: fell,
    since: isoTime(since),
    first: missing.map(({ eventId, why }) => ({ event_id: eventId, why })),
  };
}

/** Why residents are asked no more, and since when; `null`: they are. */
function parkedAnswer(parked: ResyncState['parked']) {
  if (parked === null) return null;
  const { because, reason, isLeaving, at } = parked;
  return { because, reason, leaving: isLeaving, since: isoTime(at) };
}

/** What operators have said of the room and is in force, with who did, when and why. */
function controlAnswer({ pinned, banned, policy }: RoomControl, said: readonly OperatorEvent[]) {
  const about = (type: OperatorEvent['type'], resident: ServerName) => {
    const entry = said.find((event) => event.type === type && 'resident' in event && event.resident === resident);
    return { resident, by: entry?.by ?? null, reason: entry?.reason ?? null, since: iso(entry?.at ?? null) };
  };
  return {
    pinned: pinned.map((resident) => about('ResidentPinned', resident)),
    banned: banned.map((resident) => about('ResidentBanned', resident)),
    policy: writtenPolicy(policy),
  };
}

function gapAnswer({
  eventId,
  origin,
  openedAt,
  attempts,
  wakeAt,
  lastResident,
  lastFailure,
  lastReason,
}: RoomDescription['gaps'][number]) {
  return {
    event_id: eventId,
    cited_by_event_of: origin,
    opened_at: isoTime(openedAt),
    attempts,
    next_try_at: iso(wakeAt),
    last_resident: lastResident,
    last_failure: lastFailure,
    last_reason: lastReason,
  };
}

/** A room with its journal, each event explained. */
export function descriptionAnswer(room: RoomDescription): Answer<'descriptionAnswer'> {
  return {
    ...roomAnswer(room),
    progress: room.progress,
    ...controlAnswer(room.resync.control, room.operatorSaid),
    gaps: room.gaps.map(gapAnswer),
    corrections_due: correctionsAnswer(room.corrections),
    staged_events: room.backlog.staged,
    oldest_staged_at: iso(room.backlog.oldestStagedAt),
    waiting_events: room.waiting.map(({ eventId, origin, receivedAt, attempts, reason }) => ({
      event_id: eventId,
      origin,
      received_at: isoTime(receivedAt),
      attempts,
      reason,
    })),
    dropped_events: room.dropped.map(({ eventId, origin, droppedAt, reason }) => ({
      event_id: eventId,
      origin,
      dropped_at: isoTime(droppedAt),
      reason,
    })),
    missing_events: room.missing.map(missingAnswer),
    open_joins: room.openIntents.map(intentAnswer),
    journal: room.journal.map(journalAnswer),
  };
}

function correctionsAnswer({ changes, events, oldestSince, judged, changed }: RoomDescription['corrections']) {
  return { changes, events, oldest_since: iso(oldestSince), judged, changed };
}

/** `gap`: the one whose state alone lacks it, by the word of those in `named_by`; null: the room does. */
function missingAnswer(event: RoomDescription['missing'][number]) {
  const { eventId, why, type, since, askedOf, namedBy, gapId, foundAt } = event;
  return {
    ...{
      event_id: eventId,
      why,
      type,
      since: isoTime(since),
      asked_of: [...askedOf],
      named_by: [...namedBy],
      gap: gapId,
    },
    found_at: iso(foundAt),
  };
}

/** `what`: whether the join is to be finished, or the room left again. */
function intentAnswer(intent: RoomDescription['openIntents'][number]) {
  const { what, userId, eventId, resident, createdAt, attempts, notBefore, lastReason } = intent;
  return {
    ...{ what, user_id: userId, event_id: eventId, resident, attempts },
    since: isoTime(createdAt),
    next_try_at: isoTime(notBefore),
    last_reason: lastReason,
  };
}

function journalAnswer({ position, seq, event }: Journalled<ResyncEvent>) {
  return { position, seq, at: isoTime(event.at), type: event.type, explanation: explain(event) };
}

/** One member, a row of the list of members. */
export function memberAnswer(member: Member): Answer<'membersAnswer'>['members'][number] {
  const { userId, eventId, membership, displayName } = member;
  return { user_id: userId, event_id: eventId, membership, display_name: displayName };
}
