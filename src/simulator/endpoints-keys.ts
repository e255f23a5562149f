/**
 * Keys, versions, aliases and profiles: what servers tell anybody who asks.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#retrieving-server-keys
 */
import { MatrixError } from '../http/matrix-error.ts';
import { type ServerName, parseRoomAlias, parseUserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Answer, answerWith, answerWithText } from './answer.ts';
import { type Endpoint } from './endpoint.ts';
import { type Federation } from './federation.ts';

/** Answers about servers of an alias; a joining server tries a few of them. */
const DIRECTORY_SERVERS_MAX = 100;

export const KEY_ENDPOINTS: readonly Endpoint[] = [
  {
    name: 'server_keys',
    method: 'GET',
    path: '/_matrix/key/v2/server',
    answerUnsigned: ({ server }, { keyAnswers }) => answerWithText(keyAnswers.of(server)),
  },
  {
    name: 'notary_query',
    method: 'POST',
    path: '/_matrix/key/v2/query',
    answerUnsigned: ({ server, content }, federation) => {
      const wanted = content['server_keys'];
      if (!isJsonObject(wanted)) throw new MatrixError(400, 'M_BAD_JSON', 'server_keys is not an object');
      return vouch(federation, server, Object.keys(wanted));
    },
  },
  {
    name: 'notary_query',
    method: 'GET',
    path: '/_matrix/key/v2/query/:serverName',
    answerUnsigned: ({ server, params }, federation) => vouch(federation, server, params),
  },
  {
    name: 'version',
    method: 'GET',
    path: '/_matrix/federation/v1/version',
    answerUnsigned: () => answerWith({ server: { name: 'Rejoinder simulator', version: '1' } }),
  },
  {
    name: 'query_directory',
    method: 'GET',
    path: '/_matrix/federation/v1/query/directory',
    answer: ({ server, query }, { aliases, residents }) => {
      const alias = parseRoomAlias(query.get('room_alias') ?? undefined);
      const room = alias?.endsWith(`:${server}`) === true ? aliases.get(alias) : undefined;
      if (room === undefined) throw new MatrixError(404, 'M_NOT_FOUND', 'there is no such alias');
      const servers = [...new Set([server, ...residents, ...room.serversInRoom()])].slice(0, DIRECTORY_SERVERS_MAX);
      return answerWith({ room_id: room.roomId, servers });
    },
  },
  {
    name: 'query_profile',
    method: 'GET',
    path: '/_matrix/federation/v1/query/profile',
    answer: ({ server, query }, federation) => answerWith(profileOf(federation, server, query.get('user_id'))),
  },
  {
    name: 'user_devices',
    method: 'GET',
    path: '/_matrix/federation/v1/user/devices/:userId',
    answer: ({ params: [userId = ''] }) => answerWith({ user_id: userId, stream_id: 1, devices: [] }),
  },
];

function vouch({ keyAnswers, servers }: Federation, notary: ServerName, wanted: readonly string[]): Answer {
  const known = wanted.filter((name): name is ServerName => servers.has(name as ServerName));
  const texts = known.map((name) => keyAnswers.vouchedFor(name, notary));
  return { ...answerWithText(`{"server_keys":[${texts.join(',')}]}`), keyServers: wanted.length };
}

/** What a user's membership says in the first room that has them. */
function profileOf({ rooms }: Federation, server: ServerName, userId: string | null): JsonObject {
  if (parseUserId(userId) !== undefined && userId?.endsWith(`:${server}`) === true) {
    for (const room of rooms.values()) {
      const member = room.currentEvent('m.room.member', userId);
      if (member?.membership !== 'join') continue;
      const { content } = JSON.parse(member.json.toString('utf8')) as { readonly content: JsonObject };
      const { displayname, avatar_url } = content;
      return {
        ...(displayname === undefined ? {} : { displayname }),
        ...(avatar_url === undefined ? {} : { avatar_url }),
      };
    }
  }
  throw new MatrixError(404, 'M_NOT_FOUND', 'there is no such user');
}
