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
  const { client, clientOptions, listenForStop, output } = commands;
  const rooms = program.command('rooms').description('See how far the rooms are, and steer them.');
  client('list', 'List the rooms and how far each is.', rooms).action(async (flags: RoomsFlags) => {
    const { listRooms } = await import('./commands/rooms.ts');
    await listRooms(clientOptions(flags), output);
  });
  // "rooms" and "rooms ROOM" mean it, too.
  client('show', 'Explain a room by its journal: what was decided about it, when and why; or list all.', rooms, true)
    .argument('[room]', 'room id or alias')
    .action(async (room: string | undefined, flags: RoomsFlags) => {
      const { listRooms, showRoom } = await import('./commands/rooms.ts');
      if (room === undefined) await listRooms(clientOptions(flags), output);
      else await showRoom(room, clientOptions(flags), output);
    });
  client('watch', 'Print what is decided about a room, until it is whole, parked or left, or Ctrl-C.', rooms)
    .argument('<room>', 'room id or alias')
    .action(async (room: string, flags: RoomsFlags) => {
      const { watchRoom } = await import('./commands/watch-room.ts');
      await watchRoom(room, { ...clientOptions(flags), stop: listenForStop() }, output);
    });

  const commandOptions = ({ by, reason, ...flags }: CommandFlags) => ({
    ...clientOptions(flags),
    ...(by === undefined ? {} : { by }),
    ...(reason === undefined ? {} : { reason }),
  });
  const command = (name: CommandName, room = '<room>'): Command =>
    client(name, COMMAND_SUMMARIES[name], rooms)
      .argument(room, 'room id or alias')
      .option('--by <name>', 'who decides it, for the journal (default: who runs the command)')
      .option('--reason <text>', 'why, for the journal');
  command('retry', '[room]')
    .option('--resident <server>', 'all rooms instead that wait or are parked and that this server is in')
    .action(async (room: string | undefined, { resident, ...flags }: CommandFlags & { resident?: string }) => {
      const { commandRoom, retryRooms, roomOrResident } = await import('./commands/command-room.ts');
      const which = roomOrResident(room, resident);
      if ('resident' in which) await retryRooms(which.resident, commandOptions(flags), output);
      else await commandRoom('retry', which.room, {}, commandOptions(flags), output);
    });
  for (const name of ['resume', 'cancel'] as const) {
    command(name).action(async (room: string, flags: CommandFlags) => {
      const { commandRoom } = await import('./commands/command-room.ts');
      await commandRoom(name, room, {}, commandOptions(flags), output);
    });
  }
  for (const name of ['pin-resident', 'unpin-resident', 'ban-resident', 'unban-resident'] as const) {
    command(name)
      .argument('<server>', 'server name, such as example.org')
      .action(async (room: string, resident: string, flags: CommandFlags) => {
        const { commandRoom } = await import('./commands/command-room.ts');
        await commandRoom(name, room, { resident }, commandOptions(flags), output);
      });
  }
  client('purge', 'Delete everything that is held of a room; who is in it leaves first, by --force.', rooms)
    .argument('<room>', 'room id or alias')
    .option('--dry-run', 'say what would be deleted, and delete nothing')
    .option('--force', 'also when users of this server are in the room: they leave it first')
    .action(async (room: string, flags: RoomsFlags & { dryRun?: true; force?: true }) => {
      const { purge } = await import('./commands/purge.ts');
      const how = { dryRun: flags.dryRun === true, force: flags.force === true };
      await purge(room, { ...clientOptions(flags), ...how }, output);
    });
  command('set-policy')
    .argument(
      '<policy...>',
      'given_up=park|leave, give_up_after=14d|never, state_quorum=1|2|3, leave_during_resync=abandon|finish_best_effort|purge|forbid_last_leave|silent; =default as in all rooms',
    )
    .action(async (room: string, policies: string[], flags: CommandFlags) => {
      const { commandRoom, readPolicies } = await import('./commands/command-room.ts');
      const policy = readPolicies(policies);
      await commandRoom('set-policy', room, { policy }, commandOptions(flags), output);
    });
}
