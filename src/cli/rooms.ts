/** The `rooms` commands on the command line: arguments and help. What they do is loaded when they are called. */
import { type Command } from 'commander';
import { COMMAND_SUMMARIES, type CommandName } from '../resync/commands.ts';
import { type ClientCommands } from './journal.ts';

interface RoomsFlags {
  readonly url?: string;
  readonly json?: true;
}

interface CommandFlags extends RoomsFlags {
  readonly by?: string;
  readonly reason?: string;
}

/** Adds `rejoinder rooms` with what can be done with it. */
export function addRoomCommands(program: Command, commands: ClientCommands): void {
  const { client, clientOptions, output } = commands;
  const rooms = client(
    'rooms',
    'List the rooms and how far each is, or explain one by its journal; command one.',
    program,
  )
    .argument('[room]', 'room id or alias: as "rooms show"')
    .action(async (room: string | undefined, flags: RoomsFlags) => {
      const { listRooms, showRoom } = await import('./commands/rooms.ts');
      if (room === undefined) await listRooms(clientOptions(flags), output);
      else await showRoom(room, clientOptions(flags), output);
    });
  client('list', 'List the rooms and how far each is.', rooms).action(async (flags: RoomsFlags) => {
    const { listRooms } = await import('./commands/rooms.ts');
    await listRooms(clientOptions(flags), output);
  });
  client('show', 'Explain a room by its journal: what was decided about it, when and why.', rooms)
    .argument('<room>', 'room id or alias')
    .action(async (room: string, flags: RoomsFlags) => {
      const { showRoom } = await import('./commands/rooms.ts');
      await showRoom(room, clientOptions(flags), output);
    });

  const commandOptions = ({ by, reason, ...flags }: CommandFlags) => ({
    ...clientOptions(flags),
    ...(by === undefined ? {} : { by }),
    ...(reason === undefined ? {} : { reason }),
  });
  const command = (name: CommandName): Command =>
    client(name, COMMAND_SUMMARIES[name], rooms)
      .argument('<room>', 'room id or alias')
      .option('--by <name>', 'who decides it, for the journal (default: who runs the command)')
      .option('--reason <text>', 'why, for the journal');
  for (const name of ['pin-resident', 'unpin-resident', 'ban-resident', 'unban-resident'] as const) {
    command(name)
      .argument('<server>', 'server name, such as example.org')
      .action(async (room: string, resident: string, flags: CommandFlags) => {
        const { commandRoom } = await import('./commands/command-room.ts');
        await commandRoom(name, room, { resident }, commandOptions(flags), output);
      });
  }
  command('set-policy')
    .argument(
      '<policy...>',
      'given_up=park|leave, give_up_after=14d|never, state_quorum=1|2|3; =default as in all rooms',
    )
    .action(async (room: string, policies: string[], flags: CommandFlags) => {
      const { commandRoom, readPolicies } = await import('./commands/command-room.ts');
      const policy = readPolicies(policies);
      await commandRoom('set-policy', room, { policy }, commandOptions(flags), output);
    });
}
