/**
 * How an event says that it relates to another. A reply names the event in another place, and is no relation.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#forming-relationships-between-events
 */
import { ownString, ownValue } from '../content.ts';
import { type EventId, IDENTIFIER_BYTES_MAX, parseEventId } from '../identifiers.ts';
import { isJsonObject } from '../json/strict-json.ts';
import { type JsonObject } from '../pdu.ts';

export interface Relation {
  readonly relatesTo: EventId;
  readonly relType: string;
}

/** `undefined`: it relates to nothing, or to what nobody could name. */
export function relationOf(content: JsonObject): Relation | undefined {
  const said = ownValue(content, 'm.relates_to');
  if (!isJsonObject(said)) return undefined;
  const relatesTo = parseEventId(ownValue(said, 'event_id'));
  const relType = ownString(said, 'rel_type');
  if (relatesTo === undefined || relType === undefined || relType === '') return undefined;
  return Buffer.byteLength(relType) > IDENTIFIER_BYTES_MAX ? undefined : { relatesTo, relType };
}
