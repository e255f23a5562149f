/**
 * State resolution of room version 1: power levels, then join rules, then memberships, then the rest; for each place the
 * candidates are ordered by depth, and the auth rules pick.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v1/#state-resolution
 */
import { createHash } from 'node:crypto';
import { stateNeededToAuthorise } from '../auth/auth-events.ts';
import { authoriseAgainstState } from '../auth/auth-rules.ts';
import { type AuthState } from '../auth/auth-verdict.ts';
import { type EventId } from '../identifiers.ts';
import { compareDepths } from '../depth.ts';
import { type InParts, PART_STEPS } from './parts.ts';
import { type Pdu } from '../pdu.ts';
import { type StateMap, parseStateMapKey, stateMapKey } from '../state-map.ts';
import { type Resolution } from './state-resolution-input.ts';

type Places = Map<string, Pdu>;
type Judge = (event: Pdu, state: AuthState) => boolean;

/** @returns what comes to stand at conflicted places. */
export function* resolveV1(resolution: Resolution): InParts<StateMap> {
  const { rules, fetchEvent, isRejected, onRefused } = resolution;
  const isAllowed: Judge = (event, state) => {
    if (authoriseAgainstState(event, state, rules).ok) return true;
    onRefused(event.eventId);
    return false;
  };
  // Rejected events count as missing here (as in Synapse).
  const candidateOf = (id: EventId): Pdu | undefined => (isRejected(id) ? undefined : fetchEvent(id));
  const { state, agreed, conflicted } = separate(resolution.conflicted, candidateOf);

  // The unconflicted events that the candidates are judged against.
  const authEvents: Places = new Map();
  let steps = 0;
  for (const candidates of conflicted.values()) {
    if (++steps % PART_STEPS === 0) yield;
    for (const event of candidates) {
      for (const { type, stateKey } of stateNeededToAuthorise(event, rules)) {
        const place = stateMapKey(type, stateKey);
        const id = agreed.get(place) ?? resolution.unconflictedAt(place);
        const authEvent = id === undefined ? undefined : candidateOf(id);
        if (authEvent !== undefined) authEvents.set(place, authEvent);
      }
    }
  }

  // 1. Power levels, 2. join rules, 3. memberships: each phase is judged against the outcome of those before.
  const phases: ((type: string, stateKey: string) => boolean)[] = [
    (type, stateKey) => type === 'm.room.power_levels' && stateKey === '',
    (type) => type === 'm.room.join_rules',
    (type) => type === 'm.room.member',
  ];
  for (const isOfPhase of phases) {
    const outcomes: Places = new Map();
    for (const [place, candidates] of conflicted) {
      const { type, stateKey } = parseStateMapKey(place);
      if (!isOfPhase(type, stateKey)) continue;
      if (++steps % PART_STEPS === 0) yield;
      outcomes.set(place, resolveAuthEvents(place, candidates, authEvents, isAllowed));
      conflicted.delete(place);
    }
    for (const [place, event] of outcomes) {
      authEvents.set(place, event);
      state.set(place, event.eventId);
    }
  }
  // 4. Everything else.
  for (const [place, candidates] of conflicted) {
    if (++steps % PART_STEPS === 0) yield;
    state.set(place, resolveOtherEvents(candidates, authEvents, isAllowed).eventId);
  }
  return state;
}

/**
 * Splits the places with one candidate from those with several: in this version states that lack a place do not contradict
 * those that have it. Places whose candidates are all missing vanish.
 */
function separate(stateSets: readonly StateMap[], candidateOf: (id: EventId) => Pdu | undefined) {
  const idsAt = new Map<string, Set<EventId>>();
  for (const stateSet of stateSets) {
    for (const [place, id] of stateSet) {
      const ids = idsAt.get(place);
      if (ids === undefined) idsAt.set(place, new Set([id]));
      else ids.add(id);
    }
  }
  const state = new Map<string, EventId>();
  const agreed = new Map<string, EventId>();
  const conflicted = new Map<string, Pdu[]>();
  for (const [place, ids] of idsAt) {
    const [only, ...others] = ids;
    if (only !== undefined && others.length === 0) {
      agreed.set(place, only);
      state.set(place, only);
      continue;
    }
    const candidates = [...ids].map(candidateOf).filter((event) => event !== undefined);
    const [first] = candidates;
    if (first === undefined) continue;
    if (candidates.length === 1) state.set(place, first.eventId);
    else conflicted.set(place, candidates);
  }
  return { state, agreed, conflicted };
}

/** Deepest first, then by the SHA-1 of the event id, ascending. */
function deepestFirst(events: readonly Pdu[]): Pdu[] {
  return events
    .map((event) => ({ event, hash: createHash('sha1').update(event.eventId, 'utf8').digest() }))
    .sort((a, b) => compareDepths(b.event, a.event) || a.hash.compare(b.hash))
    .map(({ event }) => event);
}

/** Shallowest first, each judged with the one before in its place; the last before the first that fails. */
function resolveAuthEvents(place: string, candidates: readonly Pdu[], authEvents: Places, isAllowed: Judge): Pdu {
  const [first, ...others] = deepestFirst(candidates).reverse() as [Pdu, ...Pdu[]];
  let chosen = first;
  const state: AuthState = (type, stateKey) => {
    const asked = stateMapKey(type, stateKey);
    return asked === place ? chosen : authEvents.get(asked);
  };
  for (const event of others) {
    if (!isAllowed(event, state)) break;
    chosen = event;
  }
  return chosen;
}

/** The deepest that passes; the shallowest when none does. */
function resolveOtherEvents(candidates: readonly Pdu[], authEvents: Places, isAllowed: Judge): Pdu {
  const ordered = deepestFirst(candidates) as [Pdu, ...Pdu[]];
  const state: AuthState = (type, stateKey) => authEvents.get(stateMapKey(type, stateKey));
  return ordered.find((event) => isAllowed(event, state)) ?? (ordered.at(-1) as Pdu);
}
