/** `rejoinder journal tail` and `rooms watch`: what is decided about rooms, a line each, as it happens. */
import { setTimeout as delay } from 'node:timers/promises';
import { descriptionAnswer, journalEntry } from '../../operator/answer-forms.ts';
import { understood } from '../understood.ts';
import { type ClientOptions, LostConnectionError, type OperatorClient, connectOperator } from '../operator-client.ts';
import { type Output, printable } from '../output.ts';

export interface JournalTailOptions extends ClientOptions {
  /** A position, or `now`. */
  readonly from: string;
  readonly room: string | undefined;
  readonly types: string | undefined;
  readonly json: boolean;
  readonly stop: AbortSignal;
  /** Ends it after an entry of which this is true; absent: nothing does but `stop`. */
  readonly until?: (entry: { readonly type: string }) => boolean;
  /** Between two tries to reach the server again, milliseconds; 2 s when absent. */
  readonly retryMs?: number;
}

const RETRY_MS = 2_000;

/** Prints entries until it is asked to stop, or has read what it is to. Throws `CliError` where the server is not there to begin with, or refuses. */
export async function tailJournal(options: JournalTailOptions, output: Output): Promise<void> {
  const { from, room, types, json, stop, until, retryMs = RETRY_MS } = options;
  const client = await connectOperator(options);
  try {
    const query = new URLSearchParams({ from });
    if (room !== undefined) query.set('room_id', await roomIdOf(client, room));
    if (types !== undefined) query.set('types', types);
    let lastEventId: string | undefined;
    while (!stop.aborted) {
      try {
        for await (const { id, data } of client.follow(`/journal?${query.toString()}`, { lastEventId, signal: stop })) {
          lastEventId = id;
          if (data === undefined) continue;
          printEntry(data, json, output);
          if (until?.(understood(journalEntry, JSON.parse(data))) === true) return;
        }
      } catch (error) {
        if (!(error instanceof LostConnectionError) || lastEventId === undefined) throw error;
        output.note(`${printable(error.message)}; going on after position ${printable(lastEventId)} when it is back`);
        await delay(retryMs, undefined, { signal: stop }).catch(() => undefined);
      }
    }
  } finally {
    await client.close();
  }
}

async function roomIdOf(client: OperatorClient, room: string): Promise<string> {
  if (!room.startsWith('#')) return room;
  const { body } = await client.ask(`/rooms/${encodeURIComponent(room)}`);
  return understood(descriptionAnswer.pick({ room_id: true }), body).room_id;
}

function printEntry(data: string, json: boolean, output: Output): void {
  if (json) {
    output.line(data);
    return;
  }
  const entry = understood(journalEntry, JSON.parse(data));
  const { dim } = output.colours;
  output.line(
    `${dim(String(entry.position))}  ${dim(printable(entry.recorded_at))}  ${printable(entry.room_id)}  ${printable(entry.explanation)}`,
  );
}
