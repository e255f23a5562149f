/** The operator API, `/_rejoinder/v1`: join a room, list and explain rooms, read members and state. */
import { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { descriptionAnswer, joinAnswer, memberAnswer, notReadyAnswer, roomAnswer } from './answers.ts';
import { streamRows } from './json-stream.ts';
import { type NotReady, type Ready } from '../rooms/contract.ts';
import { type OperatorPorts } from './ports.ts';
import { parseJoin, parseMembersQuery, parseRoomParameter, parseStateQuery } from './requests.ts';

/** A reader that takes nothing for this long loses its connection, and with it the cursor it holds. */
const READER_IDLE_MS = 60_000;

export interface RoutesOptions {
  readonly serverName: ServerName;
  readonly ports: OperatorPorts;
  readonly membersWaitMaxMs: number;
}

interface RoomParameters {
  Params: { room: string };
}

export function addRoutes(app: FastifyInstance, { serverName, ports, membersWaitMaxMs }: RoutesOptions): void {
  const roomOf = (request: FastifyRequest<RoomParameters>, signal: AbortSignal): Promise<RoomId> =>
    ports.resolveRoom(parseRoomParameter(request.params.room), signal);

  app.post('/rooms/join', async (request, reply) => {
    const join = parseJoin(request.body, serverName);
    return joinAnswer(await ports.joinRoom({ ...join, signal: goneSignal(reply) }));
  });

  app.get('/rooms', async () => ({ rooms: (await ports.listRooms()).map(roomAnswer) }));

  app.get<RoomParameters>('/rooms/:room', async (request, reply) =>
    descriptionAnswer(await ports.describeRoom(await roomOf(request, goneSignal(reply)))),
  );

  app.get<RoomParameters>('/rooms/:room/members', async (request, reply) => {
    const { waitMs, membership } = parseMembersQuery(request.query, membersWaitMaxMs);
    const signal = goneSignal(reply);
    const roomId = await roomOf(request, signal);
    const answer = await ports.members(roomId, { waitMs, membership, signal });
    return sendRows(reply, answer, { room_id: roomId }, 'members', (member) => JSON.stringify(memberAnswer(member)));
  });

  app.get<RoomParameters>('/rooms/:room/state', async (request, reply) => {
    const { waitMs, members } = parseStateQuery(request.query, membersWaitMaxMs);
    const signal = goneSignal(reply);
    const roomId = await roomOf(request, signal);
    const answer = await ports.state(roomId, { waitMs, members, signal });
    return sendRows(
      reply,
      answer,
      { room_id: roomId, members_included: members },
      'state',
      ({ eventId, json }) => `{"event_id":${JSON.stringify(eventId)},"event":${json}}`,
    );
  });
}

/** Aborted when the connection closes before the answer is complete. */
function goneSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort(new Error('the caller went away'));
  });
  return controller.signal;
}

async function sendRows<Row>(
  reply: FastifyReply,
  answer: Ready<Row> | NotReady,
  head: Readonly<Record<string, unknown>>,
  name: string,
  rowJson: (row: Row) => string,
): Promise<FastifyReply> {
  if (!answer.ready) {
    reply.header('retry-after', Math.ceil(answer.retryAfterMs / 1000));
    return reply.code(503).send(notReadyAnswer(answer));
  }
  const rows = await streamRows(head, name, answer.pages, rowJson);
  reply.raw.setTimeout(READER_IDLE_MS, () => reply.raw.destroy());
  return reply.type('application/json; charset=utf-8').send(rows);
}
