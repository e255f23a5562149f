/**
 * Members of a simulated room beside those who have a history there: each joined once and does nothing. Their events are made
 * whenever they are asked for, so that a million of them take the memory of their ids, and not six gigabytes.
 */
import { type Draft, sealEvent, unsignedEvent } from '../matrix/compose.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { invariant } from '../invariant.ts';
import { type Crowd, type SimulatedEvent } from './room.ts';
import { type ServerKeys } from './server-keys.ts';

export interface CrowdPlan {
  readonly size: number;
  readonly rules: RoomVersionRules;
  readonly roomId: RoomId;
  /** Its members are on these in turn. */
  readonly servers: readonly ServerName[];
  readonly keys: ServerKeys;
  /** Where its joins stand: all at one place, beside each other. */
  readonly parent: SimulatedEvent;
  readonly authEvents: readonly EventId[];
  readonly originServerTsMs: number;
}

/** Every event of a server is as long as the next. */
const DIGITS = 8;

/** Throws an invariant for a room version whose events choose their ids. */
export function createCrowd(plan: CrowdPlan): Crowd {
  const { size, servers } = plan;
  invariant(size === 0 || plan.rules.eventIdFormat !== 'given', 'a crowd has ids that are hashes');
  let known: readonly EventId[] | undefined;
  let bytes: number | undefined;
  return {
    length: size,
    get bytes() {
      bytes ??= servers.slice(0, size).reduce((sum, _server, first) => {
        const count = Math.ceil((size - first) / servers.length);
        return sum + count * makeMember(plan, first).json.length;
      }, 0);
      return bytes;
    },
    ids() {
      known ??= Array.from({ length: size }, (_, index) => makeMember(plan, index).eventId);
      return known;
    },
    event(eventId) {
      const index = known?.indexOf(eventId) ?? -1;
      return index < 0 ? undefined : makeMember(plan, index);
    },
    *[Symbol.iterator]() {
      for (let index = 0; index < size; index += 1) yield makeMember(plan, index);
    },
  };
}

function makeMember(plan: CrowdPlan, index: number): SimulatedEvent {
  const { rules, roomId, servers, keys, parent, authEvents, originServerTsMs } = plan;
  const server = servers[index % servers.length];
  invariant(server !== undefined, 'a crowd has servers');
  const number = String(index).padStart(DIGITS, '0');
  const sender = `@crowd${number}:${server}` as UserId;
  const content = { displayname: `One of many, ${number}`, membership: 'join' };
  const draft: Draft = { sender, type: 'm.room.member', stateKey: sender, content };
  const depth = parent.depth + 1n;
  const prevEvents = [parent.eventId];
  const unsigned = unsignedEvent(draft, { roomId, prevEvents, authEvents, depth, originServerTs: originServerTsMs });
  const json = rules.redaction.keepsObsoleteTopLevelKeys ? { ...unsigned, origin: server } : unsigned;
  const { eventId, event } = sealEvent(json, rules, server, keys.of(server));
  const { type } = draft;
  const described = { type, stateKey: sender, sender, membership: 'join' };
  return { eventId, ...described, depth, prevEvents, authEvents, json: Buffer.from(canonicalJson(event)) };
}
