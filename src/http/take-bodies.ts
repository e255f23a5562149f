/**
 * Reads the bodies of requests as bytes, and counts what is held of them until they are answered: by everybody together, and
 * by whoever sends them. A listener has thousands of connections, and what each may send is many times what there is for all.
 */
import { type FastifyInstance, type FastifyRequest } from 'fastify';
import { MatrixError } from './matrix-error.ts';

export interface BodyLimits {
  /** Of one body. */
  readonly bytesMax: number;
  /** Held at a time, of everybody and of one sender; over it a body is refused with 429. */
  readonly bytesOfAllMax: number;
  readonly bytesOfSenderMax: number;
}

/** The beginning of each body is counted to nobody: most are no longer, and no flood of large ones keeps them out. */
const FREE_BYTES = 16 * 1024;
/** What a piece takes besides its bytes: a body may be sent in pieces of one byte each. */
const PIECE_BYTES = 128;
const RETRY_AFTER_MS = 5_000;

/** Bodies of `scope` are given to its handlers as a `Buffer`, whatever content type they claim. `senderOf`: who has a share. */
export function takeBodies(
  scope: FastifyInstance,
  { bytesMax, bytesOfAllMax, bytesOfSenderMax }: BodyLimits,
  senderOf: (request: FastifyRequest) => string,
): void {
  const bytesOf = new Map<string, number>();
  let bytesOfAll = 0;
  const held = new WeakMap<FastifyRequest, { readonly sender: string; bytes: number }>();

  const count = (sender: string, bytes: number): void => {
    bytesOfAll += bytes;
    const ofSender = (bytesOf.get(sender) ?? 0) + bytes;
    if (ofSender === 0) bytesOf.delete(sender);
    else bytesOf.set(sender, ofSender);
  };

  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', (request, payload, done) => {
    const holding = { sender: senderOf(request), bytes: 0 };
    held.set(request, holding);
    const pieces: Buffer[] = [];
    let length = 0;
    let size = 0;

    const end = (error: Error | null, body?: Buffer): void => {
      payload.off('data', take).off('end', whole).off('close', gone);
      // What is left of a body that is refused runs into nothing, and the connection is good for the next request.
      payload.resume();
      done(error, body);
    };
    /** Why no more is taken, if so. */
    const refusal = (counted: number): MatrixError | undefined => {
      if (length > bytesMax) return tooLarge();
      const ofSender = (bytesOf.get(holding.sender) ?? 0) + counted;
      const isTooMuch = bytesOfAll + counted > bytesOfAllMax || ofSender > bytesOfSenderMax;
      return counted > 0 && isTooMuch ? tooMuch() : undefined;
    };
    const take = (piece: Buffer): void => {
      length += piece.length;
      size += piece.length + PIECE_BYTES;
      const counted = Math.max(0, size - FREE_BYTES) - holding.bytes;
      const refused = refusal(counted);
      if (refused !== undefined) {
        end(refused);
        return;
      }
      count(holding.sender, counted);
      holding.bytes += counted;
      pieces.push(piece);
    };
    const whole = (): void => end(null, Buffer.concat(pieces, length));
    const gone = (): void => end(new MatrixError(400, 'M_NOT_JSON', 'the body did not come to its end'));

    payload.on('error', ignore);
    if (Number(request.headers['content-length'] ?? 0) > bytesMax) end(tooLarge());
    else payload.on('data', take).on('end', whole).on('close', gone);
  });

  // Not when the connection is closed: whoever works at a body holds it until there is an answer.
  scope.addHook('onSend', (request, _reply, _payload, done) => {
    const holding = held.get(request);
    if (holding !== undefined) {
      held.delete(request);
      count(holding.sender, -holding.bytes);
    }
    done();
  });
}

/** A stream that fails is closed, too. */
function ignore(): void {}

function tooLarge(): MatrixError {
  return new MatrixError(413, 'M_TOO_LARGE', 'the body is too large');
}

function tooMuch(): MatrixError {
  return new MatrixError(429, 'M_LIMIT_EXCEEDED', 'too much is being sent at a time', {
    retry_after_ms: RETRY_AFTER_MS,
  });
}
