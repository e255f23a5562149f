/**
 * A module of the operator's through which everything goes that Temporal stores of ours, such as one that encrypts it. It
 * exports `payloadCodec`, or an object of that kind as its default: `encode(payloads)` and `decode(payloads)`, each a promise of as many.
 *
 * Source: https://docs.temporal.io/payload-codec
 */
import { isDeepStrictEqual } from 'node:util';
import { pathToFileURL } from 'node:url';
import { type Payload, type PayloadCodec, defaultPayloadConverter } from '@temporalio/common';

/** What every run carries. */
const SAMPLE = { roomId: '!room:example.org' };

/** Loads the module, once a process, and tries it. Throws an error that says what is wrong with it. */
export async function loadPayloadCodec(path: string): Promise<PayloadCodec> {
  const wrong = (what: string, cause?: unknown): Error =>
    new Error(`the payload codec ${path} ${what}`, cause === undefined ? {} : { cause });
  const module = (await import(pathToFileURL(path).href).catch((error: unknown) => {
    throw wrong(`cannot be loaded: ${String(error)}`, error);
  })) as Readonly<Record<string, unknown>>;
  const codec = module['payloadCodec'] ?? module['default'];
  if (!isCodec(codec)) throw wrong('exports no payloadCodec with the functions encode and decode');
  const sample = [defaultPayloadConverter.toPayload(SAMPLE)];
  const back = await codec
    .encode(sample)
    .then((encoded) => codec.decode(encoded))
    .catch((error: unknown) => {
      throw wrong(`fails: ${String(error)}`, error);
    });
  if (!isDeepStrictEqual(valuesOf(back), [SAMPLE])) throw wrong('does not decode what it has encoded');
  return codec;
}

function isCodec(value: unknown): value is PayloadCodec {
  if (typeof value !== 'object' || value === null) return false;
  const { encode, decode } = value as Readonly<Record<string, unknown>>;
  return typeof encode === 'function' && typeof decode === 'function';
}

/** `undefined` for what is no list of payloads. */
function valuesOf(payloads: unknown): unknown[] | undefined {
  if (!Array.isArray(payloads)) return undefined;
  try {
    return payloads.map((payload: Payload) => defaultPayloadConverter.fromPayload(payload));
  } catch {
    return undefined;
  }
}
