/** Our own signed event, made of a resident's template and recorded before anybody sees it. */
import { type TemplateAnswer } from '../../federation/contract.ts';
import { oneLine } from '../../federation/error.ts';
import {
  type JoinTemplate,
  buildJoinEvent,
  readJoinTemplate,
  sendJoinDestination,
} from '../../federation/join-template.ts';
import { invariant } from '../../invariant.ts';
import { sealEvent } from '../../matrix/compose.ts';
import { parsePdu } from '../../matrix/event-format.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../matrix/room-versions.ts';
import { signEvent } from '../../matrix/signing/signatures.ts';
import { readRoom } from '../../store/journal/rooms.ts';
import { type JoinIntent, recordJoinIntent } from '../../store/tables/intents.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { otherRoom } from './join-answer.ts';

export interface JoinToPrepare {
  readonly roomId: RoomId;
  readonly userId: UserId;
  /** `displayname` and `avatar_url`. */
  readonly profile: JsonObject;
  /** Who gives the template. */
  readonly resident: ServerName;
  readonly template: Promise<TemplateAnswer>;
  /** Servers to turn to when the join's fate is unclear, best first. */
  readonly via: readonly ServerName[];
  /** Intents of the user that are claimed for this join. */
  readonly mine: readonly EventId[];
}

/**
 * A join that is signed, recorded and claimed, to be sent to `resident` of it.
 *
 * @throws FederationError when the resident gives no template; RoomError `unsupported-version` or `unusable-answer` when its
 * template cannot be used, `busy` when another join of the same user has begun meanwhile
 */
export async function prepareJoin(context: RoomsContext, join: JoinToPrepare): Promise<JoinIntent> {
  const { roomId, userId, profile, resident } = join;
  const reading = readJoinTemplate(await join.template, ROOM_VERSIONS, { roomId, userId });
  if (!reading.ok) {
    const kind = reading.rule === 'template-room-version' ? 'unsupported-version' : 'unusable-answer';
    throw new RoomError(kind, `${resident} gave an unusable template: ${oneLine(reading.reason)} (${reading.rule})`);
  }
  const { template } = reading;
  const { version } = template.rules;
  const held = await readRoom(context.store, roomId);
  if (held !== undefined && held.roomVersion !== version) {
    throw otherRoom(resident, `version ${version}`, `version ${held.roomVersion}`);
  }
  const createdAt = context.clock.now();
  const unsigned = buildJoinEvent(template, {
    ...{ roomId, userId, profile },
    originServerTs: createdAt,
    random: context.random,
  });
  const { eventId, event } = sealEvent(unsigned, template.rules, context.serverName, context.signingKey);
  const parsed = parsePdu(event, template.rules);
  if (!parsed.ok) {
    throw new RoomError('unusable-answer', `${resident}'s template makes no valid event: ${parsed.reason}`);
  }
  const intent: JoinIntent = {
    what: 'join',
    roomId,
    userId,
    eventId,
    event,
    roomVersion: version,
    resident: sendJoinDestination(template, resident),
    via: join.via,
    createdAt,
    attempts: 0,
    notBefore: createdAt,
    lastReason: null,
  };
  if (!(await recordJoinIntent(context.store, intent, join.mine))) {
    throw new RoomError('busy', `another join of ${userId} to ${roomId} is under way`);
  }
  return intent;
}

/** What a recorded join was built from. */
export function templateOf(intent: JoinIntent): JoinTemplate {
  const reading = readJoinTemplate(intent, ROOM_VERSIONS, intent);
  invariant(reading.ok, 'the template of a recorded join was read before');
  return reading.template;
}

/** Whether any resident may be sent the join: one of a restricted room counts only with the signature of its authoriser's server. */
export function isPortable(intent: JoinIntent): boolean {
  return templateOf(intent).authorisedVia === undefined;
}

/** The recorded event, signed with the key of today. Its id is no matter of signatures, so it is the same event. */
export function signedAnew(context: RoomsContext, intent: JoinIntent, { rules }: JoinTemplate): JsonObject {
  return signEvent({ ...intent.event, signatures: {} }, rules, context.serverName, context.signingKey);
}
