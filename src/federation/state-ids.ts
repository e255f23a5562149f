/**
 * The ids of a state and its auth chain, read as they come: as one JSON text of 128 MB, parsed at once, they would take gigabytes
 * and stop the process for a minute.
 */
import { EventIdTable } from '../columns/event-id-table.ts';
import { parseEventIdOf } from '../matrix/event-ids.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { type EventStream, type StateIdsAnswer } from './contract.ts';
import { FederationError } from './error.ts';
import { malformed } from './requests.ts';
import { readString } from './small-values.ts';

export const STATE_IDS_ARRAYS = ['pdu_ids', 'auth_chain_ids'] as const;
/** Of state and auth chain together: several times those of the largest public rooms. They take some 200 MB of memory. */
const STATE_IDS_MAX = 2_000_000;

/**
 * Reads `/state_ids`. Throws a `FederationError`: malformed for what is no id of the room version, too-large for more than
 * `idsMax` of them.
 */
export async function readStateIds(
  destination: ServerName,
  answer: EventStream<(typeof STATE_IDS_ARRAYS)[number]>,
  rules: RoomVersionRules,
  idsMax = STATE_IDS_MAX,
): Promise<StateIdsAnswer> {
  const ids = { pdu_ids: new EventIdTable(), auth_chain_ids: new EventIdTable() };
  const noId = (name: string): FederationError => malformed(destination, `${name} holds what is no event id`);
  for await (const { array, events: texts } of answer) {
    for (const text of texts) {
      const id = parseEventIdOf(readString(text), rules);
      if (id === undefined) throw noId(array);
      ids[array].add(id);
    }
    if (ids.pdu_ids.size + ids.auth_chain_ids.size > idsMax) {
      throw new FederationError(destination, 'too-large', `the state and its auth chain have over ${idsMax} ids`);
    }
  }
  const { events, dropped } = answer.summary();
  for (const name of STATE_IDS_ARRAYS) {
    if (events[name] === undefined) throw malformed(destination, `${name} is not a list`);
  }
  if (dropped > 0) throw noId('the answer');
  return { stateIds: ids.pdu_ids, authChainIds: ids.auth_chain_ids };
}
