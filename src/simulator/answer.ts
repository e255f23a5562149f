/**
 * An answer of a simulated server. The state of 100,000 members is 90 MB that are in memory already, an event a buffer:
 * a body is a list of texts and events, joined into pieces of a socket's size while it is sent, and never a whole.
 */
import { type MatrixError } from '../http/matrix-error.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type Crowd, type SimulatedEvent } from './room.ts';

/** A write for some 150 events instead of one each, and little that lies between us and a slow client. */
const CHUNK_BYTES = 131_072;
const COMMA = Buffer.from(',');

/** Text as it is, or events with commas between them. */
export type BodyPart = string | readonly Pick<SimulatedEvent, 'type' | 'json'>[] | Crowd;

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: readonly BodyPart[];
  /** Servers whose keys were asked for. */
  readonly keyServers?: number;
}

/** A value as JSON, with status 200. */
export function answerWith(value: JsonObject): Answer {
  return { status: 200, body: [JSON.stringify(value)] };
}

/** A text that is JSON already, with status 200. */
export function answerWithText(text: string): Answer {
  return { status: 200, body: [text] };
}

/** An object with arrays of events, and further members after them. */
export function answerWithEvents(
  arrays: Readonly<Record<string, readonly SimulatedEvent[]>>,
  rest: JsonObject = {},
): Answer {
  const body: BodyPart[] = [];
  let separator = '{';
  for (const [name, events] of Object.entries(arrays)) {
    body.push(`${separator}${JSON.stringify(name)}:[`, events, ']');
    separator = ',';
  }
  // What follows the brace of the other members, or their end.
  const members = JSON.stringify(rest).slice(1);
  body.push(members === '}' ? members : `,${members}`);
  return { status: 200, body };
}

/** The same with a crowd behind the events of the first array, which is not empty. */
export function withCrowd(answer: Answer, crowd: Crowd): Answer {
  if (crowd.length === 0) return answer;
  const at = answer.body.findIndex((part) => typeof part !== 'string');
  return { ...answer, body: answer.body.toSpliced(at + 1, 0, ',', crowd) };
}

/** A refusal as Matrix writes it. */
export function answerWithError({ status, errcode, message, details }: MatrixError): Answer {
  return { status, body: [JSON.stringify({ errcode, error: message, ...details })] };
}

/** The bytes of a body, for its Content-Length. */
export function bodyLength(body: readonly BodyPart[]): number {
  let bytes = 0;
  for (const part of body) {
    if (typeof part === 'string') {
      bytes += Buffer.byteLength(part);
    } else {
      bytes += Math.max(0, part.length - 1);
      if ('bytes' in part) bytes += part.bytes;
      else for (const { json } of part) bytes += json.length;
    }
  }
  return bytes;
}

/** The bytes of a body in pieces of about `CHUNK_BYTES`. */
export function* bodyChunks(body: readonly BodyPart[]): Generator<Buffer, void> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  for (const piece of piecesOf(body)) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes < CHUNK_BYTES) continue;
    yield Buffer.concat(pieces, bytes);
    pieces = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(pieces, bytes);
}

function* piecesOf(body: readonly BodyPart[]): Generator<Buffer, void> {
  for (const part of body) {
    if (typeof part === 'string') {
      yield Buffer.from(part);
      continue;
    }
    let isFirst = true;
    for (const { json } of part) {
      if (!isFirst) yield COMMA;
      isFirst = false;
      yield json;
    }
  }
}
