/**
 * `rejoinder join <room> --user NAME`: the room is usable when it returns, its memberships may still be on their way; with
 * `--classic` they are there.
 */
import { performance } from 'node:perf_hooks';
import { type ClientOptions, connectOperator } from '../operator-client.ts';
import { type Output, humanDuration, printable } from '../output.ts';

export interface JoinOptions extends ClientOptions {
  readonly user: string;
  readonly via: readonly string[];
  /** Ask for the whole state at once. */
  readonly classic: boolean;
  readonly json: boolean;
}

/** Asks the running server to join a room, and prints what became of it. */
export async function join(room: string, options: JoinOptions, output: Output): Promise<void> {
  const client = await connectOperator(options);
  try {
    const startedAt = performance.now();
    const post = { room, user_id: options.user, via: options.via, partial: !options.classic };
    const { body } = await client.ask('/rooms/join', { post });
    if (options.json) {
      output.json(body);
      return;
    }
    const text = (key: string): string => printable(String(body[key]));
    const took = humanDuration(performance.now() - startedAt);
    output.line(`${output.colours.green('Joined')} ${text('room_id')} via ${text('joined_via')} in ${took}`);
    output.line(`  event  ${text('event_id')}`);
    output.line(
      body['partial'] === true
        ? `  state  partial: usable now, members follow ("rejoinder rooms show '${text('room_id')}'" shows how far it is)`
        : '  state  full',
    );
  } finally {
    await client.close();
  }
}
