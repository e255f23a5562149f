/**
 * `PUT /_matrix/federation/v1/send/{txnId}`: what another server pushes. It is answered once it is stored: judging comes
 * later, and no room keeps a sender waiting.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#transactions
 */
import { type Logger } from '../logging.ts';
import { EVENT_BYTES_MAX } from '../matrix/event-format.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type AuthenticatedRequest, refusalOfBody } from './authenticated.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type SignedEndpoint, type TransactionHandler } from './endpoint.ts';
import { type FederationServerPorts } from './ports.ts';
import { type ReceivedTransaction } from '../rooms/contract.ts';
import { UnderWay } from '../under-way.ts';

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
  readonly logger: Logger;
}

/** The handler of one server, which takes so many transactions of another at a time. */
export function createTransactionHandler({ ports, logger }: TransactionDependencies): TransactionHandler {
  const underWay = new UnderWay(UNDER_WAY_PER_SERVER_MAX);

  return async (txnId, request) => {
    const { origin } = request;
    if (txnId.length > TXN_ID_CHARS_MAX) {
      throw new MatrixError(400, 'M_INVALID_PARAM', 'the transaction id is too long');
    }
    if (txnId.includes('\0')) throw new MatrixError(400, 'M_INVALID_PARAM', 'the transaction id holds NUL');
    const transaction = readTransaction(request, logger);
    const take = async (): Promise<JsonObject> => {
      const answer = await ports.receiveTransaction(origin, txnId, transaction);
      if (answer.outcome === 'answered') return answer.response;
      throw limited('too many of your events wait here', answer.retryAfterMs);
    };
    return underWay.run(origin, take, () => limited('too many transactions at a time', BUSY_RETRY_AFTER_MS));
  };
}

function limited(why: string, retryAfterMs: number): MatrixError {
  return new MatrixError(429, 'M_LIMIT_EXCEEDED', why, { retry_after_ms: retryAfterMs });
}

function readTransaction({ origin, raw, body }: AuthenticatedRequest, logger: Logger): ReceivedTransaction {
  if (body === undefined) throw new MatrixError(400, 'M_NOT_JSON', 'there is no body');
  if (body.origin !== origin) throw new MatrixError(403, 'M_FORBIDDEN', 'origin is not the server that signed');
  const { transaction } = body;
  if (!transaction.ok) throw refusalOfBody(transaction);
  const { pdus, dropped, edus, droppedEdus } = transaction;
  if (dropped > 0) {
    logger.info({ origin, dropped }, 'a transaction held PDUs that are no objects, or of no room');
  }
  if (droppedEdus > 0) logger.debug({ origin, dropped: droppedEdus }, 'a transaction held EDUs that mean nothing here');
  return { pdus: pdus.map(({ start, end, roomId }) => ({ raw: raw.subarray(start, end), roomId })), edus };
}
