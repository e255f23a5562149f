/** `rejoinder rooms purge <room>`: deletes everything that is held of a room, or says what that would be. */
import { setTimeout as delay } from 'node:timers/promises';
import { purgeAnswer, purgePlanAnswer } from '../../operator/answer-forms.ts';
import { understood } from '../understood.ts';
import { type ClientOptions, connectOperator } from '../operator-client.ts';
import { type Output, printable, table } from '../output.ts';

export interface PurgeOptions extends ClientOptions {
  readonly json: boolean;
  readonly dryRun: boolean;
  readonly force: boolean;
}

const POLL_MS = 500;

/** Prints what would go, or purges and says so when all is gone. Interrupted, the purge goes on at the server. */
export async function purge(room: string, options: PurgeOptions, output: Output): Promise<void> {
  const client = await connectOperator(options);
  try {
    const { dryRun, force, json } = options;
    const path = `/rooms/${encodeURIComponent(room)}/purge`;
    const first = (await client.ask(path, { post: { dry_run: dryRun, force } })).body;
    if (dryRun) {
      if (json) output.json(first);
      else printPlan(first, output);
      return;
    }
    let body = first;
    let now = understood(purgeAnswer, body);
    if (!json) output.line(`Purging ${printable(now.room_id)}; purge ${now.purge_id}`);
    while (now.done_at === null) {
      await delay(POLL_MS);
      body = (await client.ask(`/purges/${encodeURIComponent(now.purge_id)}`)).body;
      now = understood(purgeAnswer, body);
    }
    if (json) output.json(body);
    else output.line(`Nothing is left of it. Users of this server who were put out: ${now.put_out.length}`);
  } finally {
    await client.close();
  }
}

function printPlan(body: unknown, output: Output): void {
  const { room_id: roomId, members, unsettled_moves: moves, tables } = understood(purgePlanAnswer, body);
  output.line(`A purge of ${printable(roomId)} would delete:`);
  const rows = tables.map(({ table: name, rows: count }) => [name, String(count)]);
  for (const line of table(['TABLE', 'ROWS'], rows)) output.line(line);
  if (members.length + moves === 0) return;
  const who = members.length === 0 ? '' : ` Users of this server would be put out: ${printable(members.join(', '))}.`;
  const unsettled = moves === 0 ? '' : ` Joins and leaves that are not settled: ${moves}.`;
  output.line(`It asks for --force.${who}${unsettled}`);
}
