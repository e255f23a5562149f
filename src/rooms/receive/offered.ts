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

/** Screens an answer in the pool. */
export async function screenAnswer(
  { verification }: Pick<RoomsContext, 'verification'>,
  { roomId, rules, raws, capReferences }: Answer,
  { signal }: Pick<Spending, 'signal'>,
): Promise<ReadonlyMap<EventId, Offered>> {
  if (raws.length === 0) return new Map();
  const about = { roomVersion: rules.version, roomId, events: raws, capReferences, signal };
  const sound = (await verification.screen(about)).filter((event) => event.outcome === 'sound');
  return new Map(sound.map((event) => [event.eventId, event]));
}
