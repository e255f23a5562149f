/** Reading an answer that is small by nature, whole, within a limit. */
import { type Readable } from 'node:stream';

/** The body is over its limit. */
export class BodyTooLargeError extends Error {
  override readonly name = 'BodyTooLargeError';
}

/** The whole body, of each part of which `onReceived` is told the bytes; throws `BodyTooLargeError` as soon as it is longer, which also closes the connection. */
export async function readBody(
  body: AsyncIterable<Uint8Array>,
  bytesMax: number,
  onReceived: (bytes: number) => void = () => undefined,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    onReceived(chunk.length);
    if (bytes > bytesMax) throw new BodyTooLargeError(`the answer is over ${bytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}

/** Closes an answer that nobody reads. */
export function discardBody(body: Readable): void {
  body.on('error', () => undefined);
  body.destroy();
}
