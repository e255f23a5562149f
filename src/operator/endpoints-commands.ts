/** What operators command of a room: an endpoint a command, under its name; and of all rooms of a server. */
import { type JsonObject } from '../matrix/pdu.ts';
import { COMMAND_SUMMARIES, type CommandName } from '../resync/commands.ts';
import { explain } from '../resync/explain.ts';
import { COMMAND_BODIES, readCommand } from '../rooms/command-contract.ts';
import { type CommandOutcome } from '../rooms/contract.ts';
import { commandAnswer, retriedAnswer } from './answer-forms.ts';
import { type OperatorEndpoint, roomOf } from './endpoints.ts';
import { invalidParam } from './errors.ts';
import { parseRetryRooms, retryRoomsBody } from './requests.ts';

/** Who decides where nobody is named. */
export const DEFAULT_BY = 'the operator API';

const COMMANDS: readonly OperatorEndpoint[] = (Object.keys(COMMAND_BODIES) as CommandName[]).map((name) => ({
  method: 'POST',
  path: `/_rejoinder/v1/rooms/:room/${name}`,
  summary: COMMAND_SUMMARIES[name],
  body: COMMAND_BODIES[name],
  answers: commandAnswer,
  answer: async (request, { ports }) => {
    const read = readCommand(name, request.body ?? {});
    if ('problem' in read) throw invalidParam(read.problem);
    const roomId = await roomOf(request, ports);
    const { by = DEFAULT_BY, ...reason } = read.said;
    return { room_id: roomId, ...outcomeAnswer(await ports.commandRoom(roomId, read.command, { by, ...reason })) };
  },
}));

export const COMMAND_ENDPOINTS: readonly OperatorEndpoint[] = [
  ...COMMANDS,
  {
    method: 'POST',
    path: '/_rejoinder/v1/rooms/retry',
    summary: 'Retries all rooms that wait or are parked and that a server is in, a page of them.',
    body: retryRoomsBody,
    answers: retriedAnswer,
    answer: ({ body }, { ports }) => {
      const { resident, from, by = DEFAULT_BY, reason } = parseRetryRooms(body);
      return ports.retryRooms(resident, from, { by, ...(reason === undefined ? {} : { reason }) });
    },
  },
];

/** Whether something is otherwise now, and what, or why not, in words. */
function outcomeAnswer(came: CommandOutcome): JsonObject {
  return { changed: came.isChanged, explanation: came.isChanged ? explain(came.event) : came.because };
}
