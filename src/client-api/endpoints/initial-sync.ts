/**
 * A room as a client begins with it: its state, what was said last, and what its user keeps of it. It waits for a partial room's state.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidinitialsync
 */
import { streamParts } from '../../http/json-stream.ts';
import { ANY_EVENT } from '../../matrix/client/filter.ts';
import { formatRoomPoint } from '../../matrix/client/tokens.ts';
import { type UserEndpoint } from '../context.ts';
import { notReady } from '../errors.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { clientQueryOf } from '../room-request.ts';
import { limitOf } from './messages.ts';
import { eventJson } from './room.ts';

export const INITIAL_SYNC_ENDPOINTS: readonly UserEndpoint[] = inForms(R0_AND_V3, {
  method: 'GET',
  path: '/rooms/:roomId/initialSync',
  answer: async (request, context) => {
    const { reads, accounts, directory } = context;
    const { requester } = request;
    const query = clientQueryOf(request, context);
    const { roomId } = query;
    const limit = limitOf(request);
    const state = await reads.state(query);
    if (!state.ready) throw notReady(state);
    const page = await reads.messages({
      ...{ ...query, deviceId: requester.deviceId, direction: 'backwards', from: null, to: null, limit },
      ...{ filter: ANY_EVENT, isLazy: false },
    });
    if (!page.ready) throw notReady(page);
    const head = {
      room_id: roomId,
      membership: (await reads.isJoined(query)) ? 'join' : 'leave',
      visibility: (await directory.isListed(roomId)) ? 'public' : 'private',
      account_data: await accounts.roomAccountData(requester.userId, roomId),
      messages: {
        chunk: page.events.toReversed(),
        start: formatRoomPoint(page.end ?? page.start),
        end: formatRoomPoint(page.start),
      },
    };
    const frame = { opening: `${JSON.stringify(head).slice(0, -1)},"state":[`, closing: () => ']}' };
    return streamParts(frame, (await state.open()).pages, eventJson(query));
  },
} satisfies UserEndpoint);
