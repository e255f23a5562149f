/** `rejoinder rooms retry|pin-resident|…`: has the server do something with a room, and says what came of it. */
import { userInfo } from 'node:os';
import { type CommandName } from '../../resync/commands.ts';
import { CliError } from '../failure.ts';
import { commandAnswer, understood } from '../operator-answers.ts';
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
