/** What operators command of a room: an endpoint a command, under its name. */
import { type Endpoint } from '../http/endpoint.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type CommandName } from '../resync/commands.ts';
import { explain } from '../resync/explain.ts';
import { COMMAND_BODIES, readCommand } from '../rooms/command-contract.ts';
import { type CommandOutcome } from '../rooms/contract.ts';
import { type OperatorContext, type OperatorRequest, roomOf } from './endpoints.ts';
import { invalidParam } from './errors.ts';

/** Who decides where nobody is named. */
const DEFAULT_BY = 'the operator API';

export const COMMAND_ENDPOINTS: readonly Endpoint<OperatorRequest, OperatorContext>[] = (
  Object.keys(COMMAND_BODIES) as CommandName[]
).map((name) => ({
  method: 'POST',
  path: `/_rejoinder/v1/rooms/:room/${name}`,
  answer: async (request, { ports }) => {
    const read = readCommand(name, request.body ?? {});
    if ('problem' in read) throw invalidParam(read.problem);
    const roomId = await roomOf(request, ports);
    const { by = DEFAULT_BY, ...reason } = read.said;
    const outcome = await ports.commandRoom(roomId, read.command, { by, ...reason });
    return { room_id: roomId, ...outcomeAnswer(outcome) };
  },
}));

/** Whether something is otherwise now, and what, or why not, in words. */
function outcomeAnswer(outcome: CommandOutcome): JsonObject {
  const { isChanged } = outcome;
  return { changed: isChanged, explanation: isChanged ? explain(outcome.event) : outcome.because };
}
