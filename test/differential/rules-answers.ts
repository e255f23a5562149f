/**
 * Our answers to the requests that oracle_rules.py answers with Synapse's code: the same JSON in, so that a case is one
 * object that can be printed, shrunk and replayed.
 */
import { authStateOf } from '../../src/matrix/auth/auth-events.ts';
import { authoriseAgainstState } from '../../src/matrix/auth/auth-rules.ts';
import { type AuthVerdict } from '../../src/matrix/auth/auth-verdict.ts';
import { parsePdu } from '../../src/matrix/event-format.ts';
import { type EventId, type RoomId } from '../../src/matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { checkOutlier } from '../../src/matrix/pdu-checks.ts';
import { type RoomVersionRules, roomVersionRules } from '../../src/matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { resolveState } from '../../src/matrix/state-resolution/state-resolution.ts';
import { type Answer } from './differ.ts';

export interface AuthRequest {
  readonly op: 'auth';
  readonly room_version: string;
  readonly event: JsonObject;
  readonly auth_events: readonly JsonObject[];
  readonly rejected: readonly EventId[];
  readonly state_only: boolean;
}

export interface ResolveRequest {
  readonly op: 'resolve';
  readonly room_version: string;
  readonly room_id: RoomId;
  readonly events: readonly JsonObject[];
  readonly state_sets: readonly (readonly EventId[])[];
  readonly rejected: readonly EventId[];
  readonly unpersisted: boolean;
}

export type RulesRequest = AuthRequest | ResolveRequest;

export function ourAnswer(request: RulesRequest): Answer {
  const rules = roomVersionRules(request.room_version)!;
  return request.op === 'auth' ? answerAuth(request, rules) : answerResolve(request, rules);
}

/** Parses an event; throws when it is malformed, which is not what these cases are about. */
export function pduOf(json: JsonObject, rules: RoomVersionRules): Pdu {
  const parsed = parsePdu(json, rules, { capReferences: false });
  if (!parsed.ok) throw new MalformedCase(`${parsed.rule}: ${parsed.reason}`);
  return parsed.pdu;
}

export class MalformedCase extends Error {}

function answerAuth(request: AuthRequest, rules: RoomVersionRules): Answer {
  const event = pduOf(request.event, rules);
  const authEvents = request.auth_events.map((json) => pduOf(json, rules));
  const rejected = new Set(request.rejected);
  if (request.state_only) return answerOf(authoriseAgainstState(event, authStateOf(authEvents), rules), rules);
  const verdict = checkOutlier({ event, rules, authEvents, isRejected: (id) => rejected.has(id) });
  return answerOf(verdict.outcome === 'accept' ? { ok: true } : { ok: false, ...verdict }, rules);
}

function answerOf(verdict: AuthVerdict, rules: RoomVersionRules): Answer {
  return verdict.ok
    ? { answer: 'allowed', kind: `v${rules.version} allowed` }
    : { answer: 'refused', kind: `v${rules.version} ${verdict.rule}` };
}

function answerResolve(request: ResolveRequest, rules: RoomVersionRules): Answer {
  const events = new Map(request.events.map((json) => pduOf(json, rules)).map((event) => [event.eventId, event]));
  const rejected = new Set(request.rejected);
  const stateSets: StateMap[] = request.state_sets.map(
    (ids) => new Map(ids.map((id) => [stateMapKey(events.get(id)!.type, events.get(id)!.stateKey!), id])),
  );
  const resolved = resolveState({
    rules,
    roomId: request.room_id,
    stateSets,
    fetchEvent: (id) => events.get(id),
    isRejected: (id) => rejected.has(id),
  });
  return { answer: [...resolved.values()].sort().join(), kind: `v${rules.version} resolved` };
}
