/**
 * The auth rules: whether an event may stand, judged against a state. One function for every room version; what differs is
 * asked of `RoomVersionRules` by name. The rules for m.room.create, m.room.member and m.room.power_levels have files of
 * their own; rule 2, which is about the citations and not about the state, is `checkAuthEventsCited` in auth-events.ts.
 *
 * Where the spec and Synapse differ we do as Synapse does, because the rooms that exist agree with it, and say so at the
 * place. An event on which Synapse fails with an internal error never enters a room, so it is refused here.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v11/#authorization-rules (the numbers below are version 11's).
 */
import { authoriseCreate } from './auth-rules-create.ts';
import { domainPartOf, mayFederate } from './auth-rules-federation.ts';
import { authoriseMembership } from './auth-rules-membership.ts';
import { authorisePowerLevels } from './auth-rules-power-levels.ts';
import { ALLOWED, type AuthState, type AuthVerdict } from './auth-verdict.ts';
import { refuse } from '../refusal.ts';
import { membershipOf, ownValue } from '../content.ts';
import { type Pdu } from '../pdu.ts';
import { type PowerLevels, above, atLeast, powerLevelsOf } from './power-levels.ts';
import { type RoomVersionRules } from '../room-versions.ts';

export { type AuthState } from './auth-verdict.ts';

/** All rules but the second: rule 1 for m.room.create, and rules 3 to 10 against the state for everything else. */
export function authorise(event: Pdu, state: AuthState, rules: RoomVersionRules): AuthVerdict {
  // 1. If type is m.room.create: by the event alone.
  if (event.type === 'm.room.create') return authoriseCreate(event, rules);
  return authoriseAgainstState(event, state, rules);
}

/** Rules 3 to 10, which depend on the state; what state resolution repeats. m.room.create always passes. */
export function authoriseAgainstState(event: Pdu, state: AuthState, rules: RoomVersionRules): AuthVerdict {
  if (event.type === 'm.room.create') return ALLOWED;
  const create = state('m.room.create', '');
  if (create === undefined) return refuse('no-create-event', 'The state has no m.room.create.');

  // 3. The room is not federated, and the sender is of another server than the creator.
  if (domainPartOf(event.sender) !== domainPartOf(create.sender) && !mayFederate(create)) {
    return refuse('not-federated', `The room takes no events from ${domainPartOf(event.sender) ?? event.sender}.`);
  }

  // Versions 1 to 5, 4. m.room.aliases: allowed for the server that its state key names.
  if (event.type === 'm.room.aliases' && rules.aliasesSpecialCase) {
    if (event.stateKey !== undefined && event.stateKey !== '' && event.stateKey === domainPartOf(event.sender)) {
      return ALLOWED;
    }
    return refuse('aliases-state-key', 'The state key of m.room.aliases is not the domain of its sender.');
  }

  const powers = powerLevelsOf(create, state, rules);

  // 4. m.room.member.
  if (event.type === 'm.room.member') return authoriseMembership(event, { create, powers, state, rules });

  // 5. The sender is not joined.
  if (membershipOf(state('m.room.member', event.sender)) !== 'join') {
    return refuse('sender-not-joined', `${event.sender} is not in the room.`);
  }

  // 6. m.room.third_party_invite: whoever may invite may send it; rules 7 and 8 don't apply.
  if (event.type === 'm.room.third_party_invite') {
    if (atLeast(powers.ofUser(event.sender), powers.toDo('invite'))) return ALLOWED;
    return refuse('third-party-invite-power', `${event.sender} lacks the power to invite.`);
  }

  // 7. The event type asks for more power than the sender has.
  if (!atLeast(powers.ofUser(event.sender), powers.toSend(event.type, event.stateKey !== undefined))) {
    return refuse('send-power', `${event.sender} lacks the power to send ${event.type}.`);
  }

  // 8. A state key that is another user's id.
  if (event.stateKey?.startsWith('@') === true && event.stateKey !== event.sender) {
    return refuse('state-key-other-user', `The state key ${event.stateKey} is another user's.`);
  }

  // 9. m.room.power_levels.
  if (event.type === 'm.room.power_levels') return authorisePowerLevels(event, { create, powers, state, rules });

  // Versions 1 and 2, 11. m.room.redaction.
  if (event.type === 'm.room.redaction') return authoriseRedaction(event, powers, rules);

  // 10. Otherwise, allow.
  return ALLOWED;
}

/**
 * Versions 1 and 2: who has the power may redact; a server may redact its own events, told by the domain in the event id.
 */
function authoriseRedaction(event: Pdu, powers: PowerLevels, rules: RoomVersionRules): AuthVerdict {
  const sender = powers.ofUser(event.sender);
  const needed = powers.toDo('redact');
  if (sender === undefined || needed === undefined) {
    return refuse('power-levels-unreadable', 'The power levels that redacting needs cannot be read.');
  }
  // Later versions take every redaction in and decide when it is applied.
  if (!rules.redactionsJudgedByAuthRules || !above(needed, sender)) return ALLOWED;
  const redacts = ownValue(event.json, 'redacts');
  // A redaction of nothing does nothing (as in Synapse).
  if (typeof redacts !== 'string') return ALLOWED;
  const redactedDomain = domainPartOf(redacts);
  if (redactedDomain !== undefined && redactedDomain === domainPartOf(event.eventId)) return ALLOWED;
  return refuse('redaction-power', `${event.sender} may not redact ${redacts}.`);
}
