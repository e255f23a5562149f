/**
 * Rule 4 of the auth rules: m.room.member, a function for each membership.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v11/#authorization-rules
 */
import { domainPartOf, mayFederate } from './auth-rules-federation.ts';
import { authoriseThirdPartyInvite } from './auth-rules-third-party-invite.ts';
import { ALLOWED, type AuthState, type AuthVerdict } from './auth-verdict.ts';
import { refuse } from '../refusal.ts';
import { type Json, type Pdu } from '../pdu.ts';
import { membershipOf, ownString } from '../content.ts';
import { type Level, type PowerLevels, above, atLeast, creatorOf } from './power-levels.ts';
import { type RoomVersionRules } from '../room-versions.ts';

/** The state around the event that the rules compare. */
export interface AuthSituation {
  readonly create: Pdu;
  readonly powers: PowerLevels;
  readonly state: AuthState;
  readonly rules: RoomVersionRules;
}

/** A membership change, with everything the rules ask of it looked up once. */
interface Change {
  readonly event: Pdu;
  readonly sender: string;
  readonly target: string;
  readonly senderMembership: string | undefined;
  readonly targetMembership: string | undefined;
  readonly joinRule: Json | undefined;
  readonly senderLevel: Level;
  readonly targetLevel: Level;
  readonly inviteLevel: Level;
  readonly banLevel: Level;
}

/** The rule for m.room.member. */
export function authoriseMembership(event: Pdu, situation: AuthSituation): AuthVerdict {
  const { create, powers, state, rules } = situation;
  const target = event.stateKey;
  const membership = membershipOf(event);
  // 4.1. No state_key, or no membership.
  if (target === undefined || membership === undefined) {
    return refuse('member-malformed', 'm.room.member lacks a state_key or a membership.');
  }
  // 4.2, the signature of the authorising server, belongs to check 2 (verification).

  // 4.3.1. The creator's own join, right after m.room.create.
  const [onlyPrevEvent, ...otherPrevEvents] = event.prevEvents;
  if (membership === 'join' && onlyPrevEvent === create.eventId && otherPrevEvents.length === 0) {
    if (creatorOf(create, rules) === target) return ALLOWED;
  }

  // Synapse's own: the target, too, must be of the creator's server in a room that is not federated.
  const targetDomain = domainPartOf(target);
  if (targetDomain === undefined) return refuse('member-malformed', `The state key ${target} is not a user id.`);
  if (targetDomain !== domainPartOf(create.sender) && !mayFederate(create)) {
    return refuse('not-federated', `The room takes no members of ${targetDomain}.`);
  }

  // Synapse reads these four levels before it looks at the rules: if one cannot be read, no membership changes.
  const senderLevel = powers.ofUser(event.sender);
  const targetLevel = powers.ofUser(target);
  const inviteLevel = powers.toDo('invite');
  const banLevel = powers.toDo('ban');
  if (senderLevel === undefined || targetLevel === undefined || inviteLevel === undefined || banLevel === undefined) {
    return refuse('power-levels-unreadable', 'The power levels that memberships need cannot be read.');
  }

  // A membership in the state that says nothing cannot have been accepted.
  const senderMember = state('m.room.member', event.sender);
  const targetMember = state('m.room.member', target);
  for (const member of [senderMember, targetMember]) {
    if (member !== undefined && !Object.hasOwn(member.content, 'membership')) {
      return refuse('member-malformed', `The membership event ${member.eventId} in the state has no membership.`);
    }
  }

  const joinRules = state('m.room.join_rules', '')?.content;
  const change: Change = {
    event,
    sender: event.sender,
    target,
    senderMembership: membershipOf(senderMember),
    targetMembership: membershipOf(targetMember),
    joinRule: joinRules !== undefined && Object.hasOwn(joinRules, 'join_rule') ? joinRules['join_rule'] : 'invite',
    senderLevel,
    targetLevel,
    inviteLevel,
    banLevel,
  };
  switch (membership) {
    case 'join':
      return authoriseJoin(change, situation);
    case 'invite':
      return authoriseInvite(change, situation);
    case 'leave':
      return authoriseLeave(change, situation);
    case 'ban':
      return authoriseBan(change);
    case 'knock':
      if (rules.knocking) return authoriseKnock(change, rules);
      break;
  }
  // 4.8. Otherwise, the membership is unknown. Reject.
  return refuse('membership-unknown', `The membership ${membership} is not known in this room version.`);
}

/** 4.3. join */
function authoriseJoin(change: Change, { powers, state, rules }: AuthSituation): AuthVerdict {
  // 4.3.2. The sender is not the one who joins.
  if (change.sender !== change.target) return refuse('join-for-another', 'A join is sent by whoever joins.');
  // 4.3.3. The sender is banned.
  if (change.targetMembership === 'ban') return refuse('join-banned', `${change.sender} is banned.`);
  const isInvitedOrJoined = change.senderMembership === 'invite' || change.senderMembership === 'join';
  const rule = change.joinRule;
  // 4.3.6. public: allow.
  if (rule === 'public') return ALLOWED;
  // 4.3.5. restricted, and from version 10 knock_restricted.
  if ((rule === 'restricted' && rules.restrictedJoins) || (rule === 'knock_restricted' && rules.knockRestricted)) {
    // 4.3.5.1. Invited or joined already: allow.
    if (isInvitedOrJoined) return ALLOWED;
    // 4.3.5.2. The one who authorises it is joined and may invite.
    const authoriser = ownString(change.event.content, 'join_authorised_via_users_server');
    if (authoriser === undefined) return refuse('join-not-authorised', 'The join names nobody who authorises it.');
    if (membershipOf(state('m.room.member', authoriser)) !== 'join') {
      return refuse('join-not-authorised', `${authoriser}, who authorises the join, is not in the room.`);
    }
    if (!atLeast(powers.ofUser(authoriser), change.inviteLevel)) {
      return refuse('join-not-authorised', `${authoriser}, who authorises the join, lacks the power to invite.`);
    }
    return ALLOWED;
  }
  // 4.3.4. invite, and from version 7 knock.
  if (rule === 'invite' || (rule === 'knock' && rules.knocking)) {
    if (isInvitedOrJoined) return ALLOWED;
    return refuse('join-not-invited', `${change.sender} is not invited.`);
  }
  // 4.3.7. Otherwise, reject.
  return refuse('join-rule-unknown', 'The join rule lets nobody in.');
}

/** 4.4. invite */
function authoriseInvite(change: Change, { state }: AuthSituation): AuthVerdict {
  // 4.4.1. By a third-party invite.
  if (Object.hasOwn(change.event.content, 'third_party_invite')) {
    if (change.targetMembership === 'ban') return refuse('invite-target-banned', `${change.target} is banned.`);
    return authoriseThirdPartyInvite(change.event, change.target, state);
  }
  // 4.4.2. The sender is not in the room.
  if (change.senderMembership !== 'join') return notInRoom(change);
  // 4.4.3. The target is in the room, or banned.
  if (change.targetMembership === 'ban') return refuse('invite-target-banned', `${change.target} is banned.`);
  if (change.targetMembership === 'join') return refuse('invite-target-joined', `${change.target} is in the room.`);
  // 4.4.4. and 4.4.5. The power to invite.
  if (atLeast(change.senderLevel, change.inviteLevel)) return ALLOWED;
  return refuse('invite-power', `${change.sender} lacks the power to invite.`);
}

/** 4.5. leave: a departure, the refusal of an invite, the withdrawal of a knock, a kick or the end of a ban. */
function authoriseLeave(change: Change, { powers, rules }: AuthSituation): AuthVerdict {
  const isOwn = change.sender === change.target;
  // 4.5.1. Of oneself: from invite, join, and from version 7 knock.
  if (isOwn && change.senderMembership === 'invite') return ALLOWED;
  if (isOwn && change.senderMembership === 'knock' && rules.knocking) return ALLOWED;
  // 4.5.2. The sender is not in the room.
  if (change.senderMembership !== 'join') return notInRoom(change);
  if (isOwn) return ALLOWED;
  // 4.5.3. The target is banned, and the sender may not ban.
  if (change.targetMembership === 'ban' && !atLeast(change.senderLevel, change.banLevel)) {
    return refuse('unban-power', `${change.sender} lacks the power to unban.`);
  }
  // 4.5.4. The power to kick, and more power than the target.
  if (atLeast(change.senderLevel, powers.toDo('kick')) && above(change.senderLevel, change.targetLevel)) return ALLOWED;
  // 4.5.5. Otherwise, reject.
  return refuse('kick-power', `${change.sender} lacks the power to remove ${change.target}.`);
}

/** 4.6. ban */
function authoriseBan(change: Change): AuthVerdict {
  // 4.6.1. The sender is not in the room.
  if (change.senderMembership !== 'join') return notInRoom(change);
  // 4.6.2. The power to ban, and more power than the target.
  if (atLeast(change.senderLevel, change.banLevel) && above(change.senderLevel, change.targetLevel)) return ALLOWED;
  // 4.6.3. Otherwise, reject.
  return refuse('ban-power', `${change.sender} lacks the power to ban ${change.target}.`);
}

/** 4.7. knock */
function authoriseKnock(change: Change, rules: RoomVersionRules): AuthVerdict {
  // 4.7.1. The join rule is neither knock nor, from version 10, knock_restricted.
  if (change.joinRule !== 'knock' && !(change.joinRule === 'knock_restricted' && rules.knockRestricted)) {
    return refuse('knock-join-rule', 'The join rule takes no knocks.');
  }
  // 4.7.2. The sender is not the one who knocks.
  if (change.sender !== change.target) return refuse('knock-for-another', 'A knock is sent by whoever knocks.');
  // 4.7.3. Allowed unless banned, invited or joined.
  if (change.senderMembership === 'ban') return refuse('knock-banned', `${change.sender} is banned.`);
  if (change.senderMembership === 'invite' || change.senderMembership === 'join') {
    return refuse('knock-already-in', `${change.sender} is invited or in the room already.`);
  }
  return ALLOWED;
}

function notInRoom(change: Change): AuthVerdict {
  return refuse('sender-not-joined', `${change.sender} is not in the room.`);
}
