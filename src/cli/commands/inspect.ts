/** `rejoinder inspect event|auth|resolve`: answers about one document, or about one a line, without any server. */
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { inspectAuth } from '../../inspect/inspect-auth.ts';
import { type Inspection } from '../../inspect/inspect-document.ts';
import { inspectEvent } from '../../inspect/inspect-event.ts';
import { inspectResolve } from '../../inspect/inspect-resolve.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { roomVersionRules } from '../../matrix/room-versions.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { CliError } from '../failure.ts';
import { LineSplitter, OVERLONG } from '../lines.ts';
import { type Output } from '../output.ts';

export type InspectQuestion = 'event' | 'auth' | 'resolve';

export interface InspectOptions {
  readonly roomVersion: string;
  /** Absent or `-`: standard input. */
  readonly file: string | undefined;
  readonly keys?: string;
  readonly batch: boolean;
}

/** A whole room for `resolve` takes tens of megabytes; a document beyond this is no room but an attempt on the memory. */
const DOCUMENT_BYTES_MAX = 256 * 1024 * 1024;
/** Answers are written when there are so many, and whenever the input pauses: a program may ask line by line. */
const WRITE_CHARS = 64 * 1024;

type Answer = (document: Uint8Array) => Inspection;

/** Answers one document, or with `--batch` one a line. A refused document is answered too, by its reason. */
export async function inspectDocuments(
  question: InspectQuestion,
  options: InspectOptions,
  output: Output,
): Promise<void> {
  const answer = await answerTo(question, options);
  const splitter = new LineSplitter({ isSplitting: options.batch, bytesMax: DOCUMENT_BYTES_MAX });
  let text = '';
  const answerLines = async (lines: Iterable<Uint8Array | typeof OVERLONG>): Promise<void> => {
    for (const line of lines) {
      text += `${printed(inspected(answer, line), options.batch)}\n`;
      if (text.length >= WRITE_CHARS) await flush();
    }
    await flush();
  };
  const flush = async (): Promise<void> => {
    const written = text;
    text = '';
    if (written !== '') await output.raw(written);
  };
  for await (const chunk of input(options.file)) await answerLines(splitter.push(chunk));
  await answerLines(splitter.end());
}

async function answerTo(question: InspectQuestion, options: InspectOptions): Promise<Answer> {
  const rules = roomVersionRules(options.roomVersion);
  if (rules === undefined) throw new CliError(`--room-version: no version ${options.roomVersion}`, { exitCode: 2 });
  const keys = options.keys === undefined ? {} : await readKeys(options.keys);
  switch (question) {
    case 'event':
      return (document) => inspectEvent(document, rules, keys);
    case 'auth':
      return (document) => inspectAuth(document, rules);
    case 'resolve':
      return (document) => inspectResolve(document, rules);
  }
}

function inspected(answer: Answer, document: Uint8Array | typeof OVERLONG): Inspection {
  if (document === OVERLONG) {
    return { ok: false, rule: 'document.size', reason: `longer than ${DOCUMENT_BYTES_MAX} bytes` };
  }
  return answer(document);
}

/** Throws for a bad document on its own; in a batch the answer in its place says so. */
function printed(inspection: Inspection, batch: boolean): string {
  if (inspection.ok) return canonicalJson(inspection.answer);
  const error = `${inspection.rule}: ${inspection.reason}`;
  if (!batch) throw new CliError(error);
  return canonicalJson({ error });
}

async function* input(file: string | undefined): AsyncGenerator<Uint8Array> {
  const stream = file === undefined || file === '-' ? process.stdin : createReadStream(file);
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    throw unreadable(file ?? 'standard input', error);
  }
}

async function readKeys(file: string): Promise<JsonObject> {
  const bytes = await readFile(file).catch((error: unknown) => {
    throw unreadable(file, error);
  });
  const keys = parseJsonObject(bytes);
  if (!keys.ok) throw new CliError(`--keys: ${file}: ${keys.reason}`);
  const areKeys = Object.values(keys.value).every(
    (byKey) => isJsonObject(byKey) && Object.values(byKey).every((key) => typeof key === 'string'),
  );
  if (!areKeys) throw new CliError(`--keys: ${file}: expected {"server": {"key_id": "base64"}}`);
  return keys.value;
}

function unreadable(file: string, error: unknown): CliError {
  return new CliError(`cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`, {
    cause: error,
  });
}
