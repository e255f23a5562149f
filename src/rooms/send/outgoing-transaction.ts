/** What a transaction of ours to another server says: https://spec.matrix.org/v1.16/server-server-api/#transactions */
import { type ServerName } from '../../matrix/identifiers.ts';
import { parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { readRedacted } from '../../store/events/redactions.ts';
import { readOutgoingBodies } from '../../store/tables/deliveries.ts';
import { type RoomsContext } from '../context.ts';

/** What was taken back since it was said is sent as the redaction leaves it: its id and its signatures are of that. */
export async function outgoingTransaction(
  { store, clock, serverName }: Pick<RoomsContext, 'store' | 'clock' | 'serverName'>,
  positions: readonly number[],
): Promise<JsonObject> {
  const said = await readOutgoingBodies(store, positions);
  const redacted = await readRedacted(store, said);
  const pdus = said.flatMap(({ eventId, json }) => {
    const read = parseJsonObject(redacted.get(eventId)?.json ?? json);
    return read.ok ? [read.value] : [];
  });
  return { origin: serverName satisfies ServerName, origin_server_ts: clock.now(), pdus };
}
