/** Which events of a batch check 5 may not refuse, since the state before them is guessed (src/store/events/guessed-states.ts). */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { readKnownOtherwise, readStandingOnGuesses } from '../../store/events/guessed-states.ts';
import { type Sql } from '../../store/open-store.ts';

/** Of one batch of events that are not in the timeline yet. */
export class GuessedStates {
  readonly #sql: Sql;
  readonly #roomId: RoomId;
  readonly #events: readonly EventId[];
  readonly #stored: readonly EventId[];
  /** Those of the batch that are known otherwise than by it; read for the first event of which it matters. */
  #known: Promise<ReadonlySet<EventId>> | undefined;
  /** Stored parents after which the state is guessed; read for the first of these: it may be all that came since. */
  #guessed: Promise<ReadonlySet<EventId>> | undefined;

  /**
   * @param events of the batch
   * @param stored parents of the batch that are in the timeline, or anchors
   */
  constructor(sql: Sql, roomId: RoomId, events: readonly EventId[], stored: readonly EventId[]) {
    this.#sql = sql;
    this.#roomId = roomId;
    this.#events = events;
    this.#stored = stored;
  }

  /**
   * Whether an event that check 5 refuses is accepted all the same.
   *
   * @param prevEventsOf of an event of the batch; `undefined`: it is none
   * @param isKnown otherwise than by what is stored of it
   */
  async spare(
    { eventId, prevEvents }: Pdu,
    prevEventsOf: (id: EventId) => readonly EventId[] | undefined,
    isKnown: boolean,
  ): Promise<boolean> {
    this.#known ??= readKnownOtherwise(this.#sql, this.#roomId, this.#events);
    if (!isKnown && !(await this.#known).has(eventId)) return false;
    this.#guessed ??= readStandingOnGuesses(this.#sql, this.#roomId, this.#stored);
    const standing = new Map(Array.from(await this.#guessed, (id) => [id, true]));
    const stands = (id: EventId): boolean => {
      const known = standing.get(id);
      if (known !== undefined) return known;
      standing.set(id, false);
      const isGuess = prevEventsOf(id)?.some(stands) === true;
      standing.set(id, isGuess);
      return isGuess;
    };
    return prevEvents.some(stands);
  }
}
