/** What events whose parents are missing wait for. */
import { type EventId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type MissingParent } from '../../store/tables/staged-reads.ts';

/** What an event that waits for parents is to do. */
export interface Wait {
  /** Parents that nothing is done about yet. */
  readonly lacking: readonly EventId[];
  /** What must be settled first: gaps and staged events. */
  readonly pending: readonly EventId[];
  /** Among these are gaps, or events that are too much for us. */
  readonly isForGap: boolean;
  /** One of the gaps right before it was tried in vain: for what builds on it, the state at it is to be had. */
  readonly isInVain: boolean;
  /** Why it can have no place. */
  readonly refused?: string;
}

/**
 * Follows what events wait for to its roots, through those of this turn, and to the gaps of those that are set aside: events
 * behind one gap all wait for the gap, and not each for the one before it, until it has been tried in vain: then the first of them
 * that does not cite the gap itself has a gap of its own, for whoever made the other up may have shown it to some servers only. What follows an event that only waits for its turn
 * waits for that very event, and is released with it, in the order of the graph (store/tables/staged-pdus.ts): released by
 * the root of them all, a chain of some thousand would have turn after turn in vain.
 */
export class Waits {
  readonly #rules: RoomVersionRules;
  readonly #missing: ReadonlyMap<EventId, readonly EventId[]>;
  readonly #known: ReadonlyMap<EventId, MissingParent>;
  readonly #waits = new Map<EventId, Wait>();

  /** `missing`: by event, the parents it lacks; `known`: what is known of these events and parents. */
  constructor(
    rules: RoomVersionRules,
    missing: ReadonlyMap<EventId, readonly EventId[]>,
    known: ReadonlyMap<EventId, MissingParent>,
  ) {
    this.#rules = rules;
    this.#missing = missing;
    this.#known = known;
  }

  /** What an event of `missing` is to do. */
  of(eventId: EventId): Wait {
    const found = this.#waits.get(eventId);
    if (found !== undefined) return found;
    // Stands for it while its parents are looked at: events on a cycle wait for each other.
    this.#waits.set(eventId, { lacking: [], pending: [eventId], isForGap: false, isInVain: false });
    const wait = this.#follow(eventId);
    this.#waits.set(eventId, wait);
    return wait;
  }

  #follow(eventId: EventId): Wait {
    const about = this.#known.get(eventId);
    if (about?.gap === 'open') {
      return { lacking: [], pending: [eventId], isForGap: true, isInVain: about.isTriedInVain };
    }
    const lacking: EventId[] = [];
    const pending = new Set<EventId>();
    let isForGap = false;
    let isInVain = false;
    for (const parentId of this.#missing.get(eventId) ?? []) {
      const parent = this.#known.get(parentId);
      if (parent?.isParent === true) continue;
      if (parent?.gap === 'open') {
        pending.add(parentId);
        isForGap = true;
        isInVain ||= parent.isTriedInVain;
      } else if (this.#missing.has(parentId)) {
        const before = this.of(parentId);
        if (before.isInVain) {
          lacking.push(parentId);
          continue;
        }
        const roots = before.lacking.length > 0 || before.refused !== undefined ? [parentId] : before.pending;
        roots.forEach((root) => pending.add(root));
        isForGap ||= before.isForGap;
      } else if (parent?.isComing === true) {
        const roots = parent.gaps.length > 0 ? parent.gaps : [parentId];
        roots.forEach((root) => pending.add(root));
        isForGap ||= parent.gaps.length > 0;
      } else if (parent !== undefined && isOfOtherRoom(parent, this.#rules)) {
        return { lacking, pending: [], isForGap, isInVain, refused: `its prev event ${parentId} is of another room` };
      } else if (parent?.gap === 'given-up') {
        const why = parent.gapReason ?? 'nobody has it';
        return {
          lacking,
          pending: [],
          isForGap,
          isInVain,
          refused: `its prev event ${parentId} cannot be had: ${why}`,
        };
      } else {
        lacking.push(parentId);
      }
    }
    return { lacking, pending: [...pending], isForGap, isInVain };
  }
}

/**
 * Whether an event cannot be of this room, since another room has it under its id: where ids are hashes, which the room's id is part
 * of. In versions 1 and 2 senders choose them, and this room may have an event of its own under it.
 */
export function isOfOtherRoom({ isElsewhere }: MissingParent, { eventIdFormat }: RoomVersionRules): boolean {
  return isElsewhere && eventIdFormat !== 'given';
}
