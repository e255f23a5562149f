/** `rejoinder members <room>`: the members once the room is whole or degraded, with its progress while it is neither. */
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { parseDuration } from '../../config/units.ts';
import { CliError } from '../failure.ts';
import { type ApiAnswer, type ClientOptions, type OperatorClient, connectOperator } from '../operator-client.ts';
import { type Output, humanDuration, printable, table } from '../output.ts';

export interface MembersOptions extends ClientOptions {
  readonly membership: string;
  /** A duration such as `5m`. */
  readonly wait: string;
  readonly json: boolean;
}

/** One question to the server waits this long, so that progress is shown at least so often. */
const ASK_WAIT_MS = 2_000;

/** Prints the members of a room, waiting for them where the room is partial, as long as the options say. */
export async function members(room: string, options: MembersOptions, output: Output): Promise<void> {
  const waitMs = parseDuration(options.wait);
  if (waitMs === undefined) {
    throw new CliError(`--wait: expected a duration such as 30s or 5m, found ${JSON.stringify(options.wait)}`, {
      exitCode: 2,
    });
  }
  const client = await connectOperator(options);
  try {
    const { body, text } = await untilWhole(client, room, options.membership, waitMs, output);
    if (options.json) {
      await output.raw(`${text}\n`);
      return;
    }
    const found = Array.isArray(body['members']) ? (body['members'] as Record<string, unknown>[]) : [];
    const cell = (value: unknown): string => (typeof value === 'string' ? value : '');
    const rows = found.map((one) => [cell(one['user_id']), cell(one['membership']), cell(one['display_name'])]);
    await output.raw(`${table(['USER', 'MEMBERSHIP', 'NAME'], rows).join('\n')}\n`);
    const isDegraded = body['degraded'] === true;
    output.note(
      isDegraded
        ? `${found.length} members; the room is degraded, its state lacks events: rejoinder rooms show ROOM names them`
        : `${found.length} members`,
    );
  } finally {
    await client.close();
  }
}

async function untilWhole(
  client: OperatorClient,
  room: string,
  membership: string,
  waitMs: number,
  output: Output,
): Promise<ApiAnswer> {
  const startedAt = performance.now();
  let said = '';
  for (;;) {
    const askedAt = performance.now();
    const leftMs = Math.max(0, Math.round(waitMs - (askedAt - startedAt)));
    const askMs = Math.min(leftMs, ASK_WAIT_MS);
    const filter = membership === 'all' ? '' : `&membership=${encodeURIComponent(membership)}`;
    const path = `/rooms/${encodeURIComponent(room)}/members?wait_ms=${askMs}${filter}`;
    const answer = await client.ask(path, { expected: [503] });
    if (answer.status !== 503) return answer;

    const reason = printable(String(answer.body['error']));
    if (leftMs <= askMs) {
      throw new CliError(`the room is not whole after ${humanDuration(waitMs)}: ${reason}`, {
        hint: 'Wait longer with --wait, or see what holds it up: rejoinder rooms show ROOM',
      });
    }
    if (reason !== said) output.note(`waiting: ${reason}`);
    said = reason;
    // A server that answers before the time is up knows that waiting is of no use yet.
    const earlyMs = askMs - (performance.now() - askedAt);
    const retryAfterMs = Number(answer.body['retry_after_ms']);
    if (earlyMs > ASK_WAIT_MS / 2) await delay(Math.min(Math.max(retryAfterMs || 0, earlyMs), leftMs));
  }
}
