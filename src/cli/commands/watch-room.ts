/** `rejoinder rooms watch`: a room on its way to being whole. */
import { ENTRY_TYPES, streamOf } from '../../resync/entries.ts';
import { descriptionAnswer } from '../../operator/answer-forms.ts';
import { understood } from '../understood.ts';
import { type ClientOptions, connectOperator } from '../operator-client.ts';
import { type Output, printable } from '../output.ts';
import { tailJournal } from './journal-tail.ts';

export interface WatchOptions extends ClientOptions {
  readonly json: boolean;
  readonly stop: AbortSignal;
}

/** In which nothing more is on its way by itself. */
const SETTLED_PHASES = new Set(['complete', 'degraded', 'parked', 'ended']);
/** After which it is so. */
const SETTLING: ReadonlySet<string> = new Set(['ResyncCompleted', 'FullStateJoined', 'ResyncParked', 'StayEnded']);
const CONTROL_TYPES = ENTRY_TYPES.filter((type) => streamOf({ type } as Parameters<typeof streamOf>[0]) === 'resync');

/** Says what the room is, and prints what is decided about it from then on, until it is settled. */
export async function watchRoom(room: string, options: WatchOptions, output: Output): Promise<void> {
  const client = await connectOperator(options);
  const { body } = await client.ask(`/rooms/${encodeURIComponent(room)}`).finally(() => client.close());
  const { room_id: roomId, phase, journal } = understood(descriptionAnswer, body);
  output.note(`${printable(roomId)} is ${printable(phase)}`);
  if (SETTLED_PHASES.has(phase)) return;
  const from = String(journal.at(-1)?.position ?? 'now');
  const until = ({ type }: { readonly type: string }): boolean => SETTLING.has(type);
  await tailJournal({ ...options, from, room: roomId, types: CONTROL_TYPES.join(','), until }, output);
}
