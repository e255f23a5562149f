/** Which rooms of a user a response is about, by what he was in them at the token and what he is now. Pure. */

export type Section = 'join' | 'leave' | 'invite' | 'knock';

/** A user and a room, at a token and now. */
export interface Standing {
  readonly membership: string | null;
  readonly memberEventId: string | null;
  readonly partial: boolean;
  /** He has left it, and wants to see no more of it. */
  readonly isForgotten?: boolean;
  /** At the token. */
  readonly membershipThen: string | null;
  readonly memberEventIdThen: string | null;
  readonly wasPartial: boolean;
}

export interface Asked {
  readonly isInitial: boolean;
  /** The client wants all memberships, which a partial room does not have. */
  readonly isEager: boolean;
  readonly includeLeave: boolean;
}

export interface Place {
  readonly section: Section;
  /** The client knows nothing of the room that still holds. */
  readonly isNew: boolean;
}

/** Where the room stands in the response; `undefined`: nowhere. */
export function placeOf(room: Standing, { isInitial, isEager, includeLeave }: Asked): Place | undefined {
  const { membership, memberEventId, memberEventIdThen } = room;
  // To who wants all members a partial room has not been shown as joined: it comes when it is whole, as if it had been joined then.
  const wasUnseen = isEager && room.wasPartial && room.membershipThen === 'join';
  const then = isInitial || wasUnseen ? null : room.membershipThen;
  switch (membership) {
    case 'join':
      return isEager && room.partial ? undefined : { section: 'join', isNew: then !== 'join' };
    case 'invite':
    case 'knock':
      return then === membership && memberEventId === memberEventIdThen
        ? undefined
        : { section: membership, isNew: true };
    case null:
    default: {
      if (isInitial) {
        return includeLeave && membership !== null && room.isForgotten !== true
          ? { section: 'leave', isNew: true }
          : undefined;
      }
      const wasThere = then === 'join' || then === 'invite' || then === 'knock';
      return wasThere ? { section: 'leave', isNew: then !== 'join' } : undefined;
    }
  }
}
