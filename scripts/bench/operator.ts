/** The operator API as benches use it: bodies are read to the last byte and timed there, and parsed only afterwards. */
import { Agent, request } from 'undici';
import { type z } from 'zod';
import { monotonicUs } from './monotonic.ts';

export interface OperatorAddress {
  /** Such as `http://127.0.0.1:8009`. */
  readonly url: string;
  readonly token: string;
}

export interface TimedAnswer {
  readonly status: number;
  readonly body: Buffer;
  /** When the last byte was there, on the monotonic clock. */
  readonly atUs: number;
}

export interface OperatorCaller {
  /** GET, or POST with a body; whatever the status is. */
  ask(path: string, post?: object): Promise<TimedAnswer>;
  close(): Promise<void>;
}

export function operatorCaller({ url, token }: OperatorAddress): OperatorCaller {
  // A request for members waits for minutes, and hundreds of joins are in flight at once.
  const agent = new Agent({ headersTimeout: 0, bodyTimeout: 0, connections: null });
  const authorization = `Bearer ${token}`;
  return {
    ask: async (path, post) => {
      const answer = await request(`${url}/_rejoinder/v1${path}`, {
        dispatcher: agent,
        ...(post === undefined
          ? { method: 'GET', headers: { authorization } }
          : {
              method: 'POST',
              headers: { authorization, 'content-type': 'application/json' },
              body: JSON.stringify(post),
            }),
      });
      const pieces: Buffer[] = [];
      for await (const piece of answer.body) pieces.push(piece as Buffer);
      const atUs = monotonicUs();
      return { status: answer.statusCode, body: Buffer.concat(pieces), atUs };
    },
    close: () => agent.close(),
  };
}

/** Throws with the API's own words for anything but 200. */
export function parsed<Schema extends z.ZodType>(
  schema: Schema,
  path: string,
  { status, body }: TimedAnswer,
): z.output<Schema> {
  if (status !== 200) throw new Error(`${path}: status ${status}: ${body.toString('utf8', 0, 500)}`);
  return schema.parse(JSON.parse(body.toString('utf8')));
}
