/**
 * Tags of rooms, which are account data of a type of their own: each change reads what is there, and writes it anew.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-tagging
 */
import { AccountError } from '../../accounts/error.ts';
import { MatrixError } from '../../http/matrix-error.ts';
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type UserRequest, bodyOf, requireOwn } from '../client-request.ts';
import { type ClientContext, type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { roomIdOf } from '../room-request.ts';

const TYPE = 'm.tag';
const TAG_BYTES_MAX = 255;
const TAGS_MAX = 100;
const PATH = '/user/:userId/rooms/:roomId/tags';

export const TAG_ENDPOINTS: readonly UserEndpoint[] = (
  [
    {
      method: 'GET',
      path: PATH,
      answer: async (request, context) => ({ tags: await tagsOf(requireOwn(request), roomIdOf(request), context) }),
    },
    {
      method: 'PUT',
      path: `${PATH}/:tag`,
      answer: async (request, context) => {
        const [userId, roomId, tag, content] = [
          requireOwn(request),
          roomIdOf(request),
          tagOf(request),
          bodyOf(request),
        ];
        const { order } = content;
        if (order !== undefined && !(typeof order === 'number' && order >= 0 && order <= 1)) {
          throw new MatrixError(400, 'M_BAD_JSON', 'order: expected a number from 0 to 1');
        }
        const tags = { ...(await tagsOf(userId, roomId, context)), [tag]: content };
        if (Object.keys(tags).length > TAGS_MAX) {
          throw new MatrixError(400, 'M_INVALID_PARAM', `a room has at most ${TAGS_MAX} tags`);
        }
        await context.accounts.setAccountData(userId, roomId, TYPE, { tags });
        return {};
      },
    },
    {
      method: 'DELETE',
      path: `${PATH}/:tag`,
      answer: async (request, context) => {
        const [userId, roomId, tag] = [requireOwn(request), roomIdOf(request), tagOf(request)];
        const { [tag]: removed, ...others } = await tagsOf(userId, roomId, context);
        if (removed !== undefined) await context.accounts.setAccountData(userId, roomId, TYPE, { tags: others });
        return {};
      },
    },
  ] satisfies UserEndpoint[]
).flatMap((endpoint: UserEndpoint) => inForms(R0_AND_V3, endpoint));

async function tagsOf(userId: UserId, roomId: RoomId, { accounts }: ClientContext): Promise<JsonObject> {
  try {
    const { tags } = await accounts.accountData(userId, roomId, TYPE);
    return isJsonObject(tags) ? tags : {};
  } catch (error) {
    if (error instanceof AccountError && error.kind === 'not-found') return {};
    throw error;
  }
}

function tagOf({ params }: UserRequest): string {
  const tag = params['tag'] ?? '';
  if (tag !== '' && tag !== '__proto__' && Buffer.byteLength(tag) <= TAG_BYTES_MAX) return tag;
  throw new MatrixError(400, 'M_INVALID_PARAM', `a tag has 1 to ${TAG_BYTES_MAX} bytes`);
}
