/** Rooms that a user is invited to, or knocks at, and that nobody of this server is in: what other servers told us of them. */
import { passesRoom } from '../matrix/client/filter.ts';
import { type RoomId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type Transaction } from '../store/open-store.ts';
import { type ToldMembership, readOutsideBetween } from '../store/tables/outside-memberships.ts';
import { type RoomPart } from './contract.ts';
import { type RoomsQuery } from './read-spans.ts';

/** Of what is told of all of them together; of those beyond, the newest first, only the membership itself is. */
const TOLD_BYTES_MAX = 16 * 1024 * 1024;

/** Nothing is to be told of a room but that the user is out of it. */
export const OUT: RoomPart = {
  ...{ timeline: [], isLimited: false, prevBatch: null, state: [], removed: [], accountData: [] },
  ephemeral: [],
  ...{ summary: null, unread: null, resync: null },
};

export interface OutsideParts {
  readonly roomIds: ReadonlySet<RoomId>;
  readonly invited: ReadonlyMap<RoomId, readonly JsonObject[]>;
  readonly knocked: ReadonlyMap<RoomId, readonly JsonObject[]>;
  readonly left: ReadonlyMap<RoomId, RoomPart>;
}

/** What is new of them; to a client that knows nothing, those that are not over. */
export async function readOutsideParts(
  tx: Transaction,
  { userId, since, head, filter, ignored }: Pick<RoomsQuery, 'userId' | 'since' | 'head' | 'filter' | 'ignored'>,
): Promise<OutsideParts> {
  const span = { since: since?.position ?? 0, upTo: head, bytesMax: TOLD_BYTES_MAX, withEnded: since !== null };
  const rows = (await readOutsideBetween(tx, userId, span)).filter(
    ({ roomId, membership, sender }) =>
      passesRoom(filter.rooms, roomId) && !(membership === 'invite' && ignored.includes(sender)),
  );
  const told = (wanted: ToldMembership['membership']) =>
    new Map(
      rows.flatMap(({ roomId, membership, event, stripped }) =>
        membership === wanted ? [[roomId, [...stripped, asStripped(event)]] as const] : [],
      ),
    );
  return {
    roomIds: new Set(rows.map(({ roomId }) => roomId)),
    invited: told('invite'),
    knocked: told('knock'),
    left: new Map(rows.flatMap(({ roomId, membership }) => (membership === 'leave' ? [[roomId, OUT] as const] : []))),
  };
}

function asStripped({ type, state_key: stateKey, sender, content }: JsonObject): JsonObject {
  return { type: type ?? '', state_key: stateKey ?? '', sender: sender ?? '', content: content ?? {} };
}
