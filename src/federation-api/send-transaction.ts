/**
 * `PUT /_matrix/federation/v1/send/{txnId}`: what another server pushes. The same transaction again gets the same
 * answer, also while the first is still being worked on.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#transactions
 */
import { type Clock } from '../clock.ts';
import { type Logger } from '../logging.ts';
import { EVENT_BYTES_MAX } from '../matrix/event-format.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';
import { TRANSACTION_EDUS_MAX, TRANSACTION_PDUS_MAX } from '../matrix/transactions.ts';
import { createEventSplitter } from '../federation/event-splitter.ts';
import { type AuthenticatedRequest } from './authenticated.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type SignedEndpoint, type TransactionHandler } from './endpoint.ts';
import { type FederationServerPorts } from './ports.ts';
import { type ReceivedTransaction } from '../rooms/contract.ts';

/**
 * What the reference implementation takes, so that nobody who sends to others sends more: 50 events of 65,536 bytes of
 * canonical JSON, thrice as long where everything is escaped, and as much as the longest 50 of them for EDUs.
 */
export const TRANSACTION_BYTES_MAX = 200 * EVENT_BYTES_MAX;
const TXN_ID_CHARS_MAX = 255;
/** A server sends one transaction after the other; a few more may overlap when it gives up on one. */
const UNDER_WAY_PER_SERVER_MAX = 4;
const BUSY_RETRY_AFTER_MS = 5000;

export const SEND_ENDPOINTS: readonly SignedEndpoint[] = [
  {
    method: 'PUT',
    path: '/_matrix/federation/v1/send/:txnId',
    answer: (request, { takeTransaction }) => takeTransaction(request.params['txnId'] ?? '', request),
  },
];

export interface TransactionDependencies {
  readonly ports: FederationServerPorts;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborts when the server closes. */
  readonly closing: AbortSignal;
}

/** The handler of one server: a transaction that is under way or answered is not taken in again. */
export function createTransactionHandler(dependencies: TransactionDependencies): TransactionHandler {
  const { ports, clock, logger } = dependencies;
  const underWay = new Map<ServerName, Map<string, Promise<JsonObject>>>();

  const take = async (origin: ServerName, txnId: string, transaction: ReceivedTransaction): Promise<JsonObject> => {
    const before = await ports.readTransactionResponse(origin, txnId);
    if (before !== undefined) return before;
    const pdus = await ports.receiveTransaction(origin, txnId, transaction, dependencies.closing);
    const response: JsonObject = { pdus };
    await ports.recordTransactionResponse({ origin, txnId, response, receivedAt: clock.now() });
    return response;
  };

  return async (txnId, request) => {
    const { origin } = request;
    if (txnId.length > TXN_ID_CHARS_MAX) {
      throw new MatrixError(400, 'M_INVALID_PARAM', 'the transaction id is too long');
    }
    const transaction = readTransaction(request, logger);
    const ofOrigin = underWay.get(origin) ?? new Map<string, Promise<JsonObject>>();
    const running = ofOrigin.get(txnId);
    if (running !== undefined) return running;
    if (ofOrigin.size >= UNDER_WAY_PER_SERVER_MAX) {
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'too many transactions at a time', {
        retry_after_ms: BUSY_RETRY_AFTER_MS,
      });
    }
    const work = take(origin, txnId, transaction).finally(() => {
      ofOrigin.delete(txnId);
      if (ofOrigin.size === 0) underWay.delete(origin);
    });
    ofOrigin.set(txnId, work);
    underWay.set(origin, ofOrigin);
    return work;
  };
}

function readTransaction({ origin, raw, content }: AuthenticatedRequest, logger: Logger): ReceivedTransaction {
  const bad = (what: string): MatrixError => new MatrixError(400, 'M_BAD_JSON', what);
  if (content === undefined) throw new MatrixError(400, 'M_NOT_JSON', 'there is no body');
  if (content['origin'] !== origin) throw new MatrixError(403, 'M_FORBIDDEN', 'origin is not the server that signed');
  const pdus = content['pdus'];
  const edus = content['edus'] ?? [];
  if (!Array.isArray(pdus)) throw bad('pdus is not a list');
  if (!Array.isArray(edus)) throw bad('edus is not a list');
  if (pdus.length > TRANSACTION_PDUS_MAX) throw bad(`there are over ${TRANSACTION_PDUS_MAX} PDUs`);
  if (edus.length > TRANSACTION_EDUS_MAX) throw bad(`there are over ${TRANSACTION_EDUS_MAX} EDUs`);
  // The body is one valid object by now; this only finds the bytes of its parts, so that each is judged by itself.
  const splitter = createEventSplitter({ arrays: ['pdus', 'edus'], restBytesMax: TRANSACTION_BYTES_MAX });
  const parts: Record<'pdus' | 'edus', Uint8Array[]> = { pdus: [], edus: [] };
  splitter.push(raw, (array, part) => parts[array].push(part));
  const { dropped } = splitter.end();
  if (dropped > 0) logger.info({ origin, dropped }, 'a transaction held PDUs or EDUs that are not JSON objects');
  const readable = parts.edus.map((edu) => parseJsonObject(edu)).filter((edu) => edu.ok);
  return { pdus: parts.pdus, edus: readable.map(({ value }) => value) };
}
