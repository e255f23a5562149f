/** Commands as they come from Temporal: anything may stand in them, and who sends a signal is told nothing. */
import { oneLine } from '../../federation/error.ts';
import { type RoomId } from '../../matrix/identifiers.ts';
import { explain } from '../../resync/explain.ts';
import { append } from '../../store/journal/journal.ts';
import { lockRoom } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { isCommandName, readCommand } from '../command-contract.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { commandRoom } from './command-room.ts';

/** Who decides where nobody is named. */
const DEFAULT_BY = 'somebody at Temporal';

export interface UncheckedCommand {
  readonly roomId: RoomId;
  readonly name: string;
  readonly body: unknown;
  /** A refusal is journalled, since nobody is told. */
  readonly isSignal: boolean;
}

/** In words. */
export type Obeyed = { readonly changed: boolean; readonly explanation: string } | { readonly refused: string };

/** Does what is commanded, or says why not. Throws for faults of ours only. Whoever calls it looks at the journal himself. */
export async function obey(
  context: Pick<RoomsContext, 'store' | 'clock' | 'logger'>,
  { roomId, name, body, isSignal }: UncheckedCommand,
): Promise<Obeyed> {
  const read = isCommandName(name) ? readCommand(name, body ?? {}) : { problem: 'there is no such command' };
  let because: string;
  let by = DEFAULT_BY;
  if ('problem' in read) {
    because = read.problem;
  } else {
    by = read.said.by ?? by;
    try {
      const silent = { ...context, ring: () => Promise.resolve() };
      const outcome = await commandRoom(silent, roomId, read.command, { ...read.said, by });
      const explanation = outcome.isChanged ? explain(outcome.event) : outcome.because;
      return { changed: outcome.isChanged, explanation };
    } catch (error) {
      if (!(error instanceof RoomError)) throw error;
      because = error.message;
    }
  }
  context.logger.warn({ roomId, command: name, because }, 'a command was refused');
  if (isSignal) await journalRefusal(context, roomId, { command: oneLine(name), because: oneLine(because), by });
  return { refused: because };
}

async function journalRefusal(
  { store, clock }: Pick<RoomsContext, 'store' | 'clock'>,
  roomId: RoomId,
  refusal: { readonly command: string; readonly because: string; readonly by: string },
): Promise<void> {
  await withTransaction(store, async (tx) => {
    const room = await lockRoom(tx, roomId);
    if (room === undefined || room.epoch === 0) return;
    await append(tx, room, [{ type: 'CommandRefused', ...refusal, at: clock.now() }]);
  });
}
