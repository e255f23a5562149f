/** `rejoinder rooms retry|pin-resident|…`: has the server do something with a room, and says what came of it. */
import { userInfo } from 'node:os';
import { type z } from 'zod';
import { type CommandName } from '../../resync/commands.ts';
import { CliError } from '../failure.ts';
import { commandAnswer, retriedAnswer } from '../../operator/answer-forms.ts';
import { understood } from '../understood.ts';
import { type ClientOptions, connectOperator } from '../operator-client.ts';
import { type Output, printable } from '../output.ts';

export interface CommandOptions extends ClientOptions {
  readonly json: boolean;
  readonly by?: string;
  readonly reason?: string;
}

/** Throws a `CliError` where the server refuses; what is so already is no failure. */
export async function commandRoom(
  name: CommandName,
  room: string,
  about: object,
  { by = userInfo().username, reason, ...options }: CommandOptions,
  output: Output,
): Promise<void> {
  const client = await connectOperator(options);
  try {
    const post = { ...about, by, ...(reason === undefined ? {} : { reason }) };
    const { body } = await client.ask(`/rooms/${encodeURIComponent(room)}/${name}`, { post });
    if (options.json) {
      output.json(body);
      return;
    }
    const { changed, explanation } = understood(commandAnswer, body);
    output.line(printable(changed ? explanation : `Nothing is changed: ${explanation}`));
  } finally {
    await client.close();
  }
}

/** One room, or all of a server's. Throws a `CliError` for both and for neither. */
export function roomOrResident(
  room: string | undefined,
  resident: string | undefined,
): { readonly room: string } | { readonly resident: string } {
  if (room !== undefined && resident === undefined) return { room };
  if (room === undefined && resident !== undefined) return { resident };
  throw new CliError(room === undefined ? 'which room is meant is not said' : 'a room and --resident are both given', {
    hint: "Name one room, such as '#room:example.org', or all of a server's with --resident example.org.",
    exitCode: 2,
  });
}

/** Has all rooms of a server ask again that wait for it or are parked, a page after the other. */
export async function retryRooms(
  resident: string,
  { by = userInfo().username, reason, ...options }: CommandOptions,
  output: Output,
): Promise<void> {
  const client = await connectOperator(options);
  const retried: string[] = [];
  try {
    for (let from: string | null = ''; from !== null;) {
      const post = { resident, by, ...(reason === undefined ? {} : { reason }), from };
      const { body } = await client.ask('/rooms/retry', { post });
      const page: z.output<typeof retriedAnswer> = understood(retriedAnswer, body);
      retried.push(...page.retried);
      from = page.next;
    }
  } finally {
    await client.close();
  }
  if (options.json) output.json({ retried });
  else if (retried.length === 0) output.line(`No room waits for ${printable(resident)} or is parked.`);
  else for (const roomId of retried) output.line(printable(roomId));
}

/** `key=value` as the API has it; the value `default` takes a policy of the room back. Throws a `CliError`. */
export function readPolicies(policies: readonly string[]): Record<string, string | number | null> {
  return Object.fromEntries(
    policies.map((policy) => {
      const [, key, value] = /^([a-z_]+)=(.+)$/.exec(policy) ?? [];
      if (key === undefined || value === undefined) {
        throw new CliError(`${printable(policy)}: expected a policy and its value, such as state_quorum=2`, {
          hint: 'rejoinder rooms set-policy --help names them.',
          exitCode: 2,
        });
      }
      return [key, value === 'default' ? null : /^\d{1,9}$/.test(value) ? Number(value) : value];
    }),
  );
}
