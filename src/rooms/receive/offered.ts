/** What is of use of an answer that a server gave for pushed events: the sound events of the room, by id; the rest ends nothing. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type ScreenedEvent } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { type Spending } from './budgets.ts';

export type Offered = Extract<ScreenedEvent, { readonly outcome: 'sound' }>;

export interface Answer {
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  readonly raws: readonly Uint8Array[];
  /** Whether the events may enter the timeline; auth events may be older than the limit on references. */
  readonly capReferences: boolean;
}

/** The events of an answer. */
export interface Screened {
  /** Of the room, by id. */
  readonly offered: ReadonlyMap<EventId, Offered>;
  /** Ids of those that are of another room. */
  readonly foreign: ReadonlySet<EventId>;
}

/** Screens an answer in the pool. */
export async function screenAnswer(
  { verification }: Pick<RoomsContext, 'verification'>,
  { roomId, rules, raws, capReferences }: Answer,
  { signal }: Pick<Spending, 'signal'>,
): Promise<Screened> {
  if (raws.length === 0) return { offered: new Map(), foreign: new Set() };
  const about = { roomVersion: rules.version, roomId, events: raws, capReferences, signal };
  const offered = new Map<EventId, Offered>();
  const foreign = new Set<EventId>();
  for (const event of await verification.screen(about)) {
    if (event.outcome === 'sound') offered.set(event.eventId, event);
    else if (event.isForeign && event.eventId !== null) foreign.add(event.eventId);
  }
  return { offered, foreign };
}
