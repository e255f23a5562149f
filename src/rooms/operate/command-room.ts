/**
 * What an operator has done with a room: decided (src/resync/commands.ts) and journalled under the room's lock, whoever brings it,
 * the API or somebody at Temporal.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type CommandDecision, type RoomCommand, decideCommand } from '../../resync/commands.ts';
import { type Directed } from '../../resync/operator-events.ts';
import { append } from '../../store/journal/journal.ts';
import { lockRoom, readResync } from '../../store/journal/rooms.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { isBelievedIn } from '../../store/tables/room-servers.ts';
import { type RoomsContext } from '../context.ts';
import { type CommandOutcome } from '../contract.ts';
import { RoomError } from '../error.ts';
import { ringRoom } from '../ring.ts';

/**
 * Does what is commanded, in the stay that the room is in or was in last, and has its workflow look. What is so already changes
 * nothing, and is no failure.
 *
 * @throws RoomError `unknown-room`, or `inapplicable` with what is in the way
 */
export async function commandRoom(
  context: Pick<RoomsContext, 'store' | 'clock' | 'ring' | 'logger'>,
  roomId: RoomId,
  command: RoomCommand,
  by: Omit<Directed, 'at'>,
): Promise<CommandOutcome> {
  const decision = await withTransaction(context.store, (tx) =>
    decide(tx, roomId, command, { ...by, at: context.clock.now() }),
  );
  if (decision.type === 'refused') throw new RoomError('inapplicable', decision.because);
  if (decision.type === 'unchanged') return { isChanged: false, because: decision.because };
  await ringRoom(context, roomId, 'for an operator');
  return { isChanged: true, event: decision.event };
}

async function decide(tx: Transaction, roomId: RoomId, command: RoomCommand, said: Directed): Promise<CommandDecision> {
  const room = await lockRoom(tx, roomId);
  const resync = room === undefined || room.epoch === 0 ? undefined : await readResync(tx, roomId);
  if (room === undefined || resync === undefined) {
    throw new RoomError('unknown-room', `${roomId} is not a room of this server`);
  }
  const { candidates } = resync.state;
  const isKnown =
    'resident' in command &&
    (candidates.includes(command.resident) || (await isBelievedIn(tx, roomId, command.resident)));
  const decision = decideCommand(resync.state, command, { ourServer: tx.serverName, isBelievedIn: isKnown }, said);
  if (decision.type === 'append') await append(tx, room, [decision.event]);
  return decision;
}
