/** The `journal` commands on the command line: arguments and help. What they do is loaded when they are called. */
import { type Command } from 'commander';
import { type ClientOptions } from './operator-client.ts';
import { type Output } from './output.ts';

interface JournalFlags {
  readonly url?: string;
  readonly json?: true;
}

/** What every command has that asks a running server. */
export interface ClientCommands {
  /** `isDefault`: what its parent does where none is named. */
  readonly client: (name: string, description: string, parent?: Command, isDefault?: boolean) => Command;
  readonly clientOptions: (flags: JournalFlags) => ClientOptions & { readonly json: boolean };
  /** Called by commands that run until they are asked to stop. */
  readonly listenForStop: () => AbortSignal;
  readonly output: Output;
}

/** Adds `rejoinder journal` with what can be done with it. */
export function addJournalCommands(program: Command, commands: ClientCommands): void {
  const { client, clientOptions, listenForStop, output } = commands;
  const journal = program.command('journal').description('Read what was decided about the rooms.');
  client('tail', 'Print what is decided, as it happens, until Ctrl-C; a lost connection is taken up again.', journal)
    .option('--from <position>', 'begin after this position of the journal, 0 for its beginning', 'now')
    .option('--room <room>', 'of this room only: room id or alias')
    .option('--types <types>', 'of these types only, comma-separated, such as EventUnPartialStated,ResyncCompleted')
    .action(async (flags: JournalFlags & { from: string; room?: string; types?: string }) => {
      const { tailJournal } = await import('./commands/journal-tail.ts');
      const { from, room, types } = flags;
      await tailJournal({ ...clientOptions(flags), from, room, types, stop: listenForStop() }, output);
    });
  journal
    .command('rebuild')
    .description(
      'Fold the journal once more and compare with what the tables hold, while servers go on. Changes nothing; exits with 1 if something differs.',
    )
    .option('--room <room>', 'room id (default: all rooms)')
    .option('--json', 'print each room that differs as a line of JSON')
    .action(async (flags: JournalFlags & { room?: string }) => {
      const { rebuildJournal } = await import('./commands/journal-rebuild.ts');
      const { env, config, json } = clientOptions(flags);
      await rebuildJournal({ env, config, room: flags.room, json, stop: listenForStop() }, output);
    });
}
