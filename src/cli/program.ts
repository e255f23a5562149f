/** The command line: every command with its arguments and help. What a command does is loaded when it is called. */
import { Argument, Command, Option } from 'commander';
import { type Environment } from '../config/sources.ts';
import { NAMED_FAULTS } from '../simulator/named-faults.ts';
import { describeFailure } from './failure.ts';
import { type DemoFlags } from './demo/plan.ts';
import { addInspectCommands } from './inspect.ts';
import { addJournalCommands } from './journal.ts';
import { type Output, printable } from './output.ts';
import { addRoomCommands } from './rooms.ts';
import { addServiceCommands } from './services.ts';
import { addUserCommands } from './users.ts';

export interface ProgramContext {
  readonly env: Environment;
  readonly output: Output;
  readonly version: string;
  /** The interpreter with its options, and our entry point: how `up` starts `serve` and `worker`. */
  readonly self: readonly string[];
  /** Called once by commands that run until they are asked to stop; before, a signal ends the process as ever. */
  readonly listenForStop: () => AbortSignal;
}

interface ConfigFlag {
  readonly config?: string;
}

export interface ClientFlags extends ConfigFlag {
  readonly url?: string;
  readonly json?: true;
}

function faultsHelp(): string {
  const width = Math.max(...Object.keys(NAMED_FAULTS).map((name) => name.length));
  const lines = Object.entries(NAMED_FAULTS).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`);
  return ['', 'Faults:', ...lines].join('\n');
}

const repeated = (value: string, all: readonly string[]): string[] => [...all, value];

/** Runs one command line (without `node` and the script) and prints what went wrong; the exit code to end with. */
export async function runCommandLine(args: readonly string[], context: ProgramContext): Promise<number> {
  const { env, output } = context;
  try {
    await createProgram(context).parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    const { lines, exitCode } = describeFailure(error, env['REJOINDER_DEBUG'] !== undefined);
    const [first, ...rest] = lines;
    if (first !== undefined) output.note(`${output.colours.red('error:')} ${printable(first)}`);
    for (const line of rest) output.note(line);
    return exitCode;
  }
}

/** Throws `CommanderError` on wrong arguments, and what the command throws. */
function createProgram({ env, output, version, self, listenForStop }: ProgramContext): Command {
  const program = new Command('rejoinder')
    .description('Joins Matrix rooms of any size in seconds and makes them whole in the background.')
    .version(version)
    .exitOverride()
    .showHelpAfterError('(--help says more)')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeErr: (text) => output.note(text.trimEnd()),
      writeOut: (text) => output.line(text.trimEnd()),
    })
    .option('-c, --config <file>', 'configuration file (default: REJOINDER_CONFIG, then ./rejoinder.yaml)');

  const configFlag = (): ConfigFlag => program.opts<ConfigFlag>();
  const client = (name: string, description: string, parent = program, isDefault = false): Command =>
    parent
      .command(name, { isDefault })
      .description(description)
      .option('--url <url>', 'the operator listener (default: REJOINDER_URL, then the configuration)')
      .option('--json', 'print the answer as JSON');
  const clientOptions = (flags: ClientFlags) => ({ env, ...configFlag(), ...flags, json: flags.json === true });

  client('join', 'Join a room. Returns when the room is usable; its members may still be on their way.')
    .argument('<room>', "room id or alias, such as '#room:example.org'")
    .requiredOption('-u, --user <name>', 'local user who joins: @name:server or just the name')
    .option('--via <server>', 'server to ask first; may be given several times', repeated, [])
    .option('--classic', 'ask for the whole state at once, and return when it is there')
    .addHelpText('after', "\nExample: rejoinder join '#matrix:matrix.org' --user alice")
    .action(async (room: string, flags: ClientFlags & { user: string; via: string[]; classic?: true }) => {
      const { join } = await import('./commands/join.ts');
      const { user, via, classic } = flags;
      await join(room, { ...clientOptions(flags), user, via, classic: classic === true }, output);
    });

  client('members', 'List the members of a room, waiting until the room is whole.')
    .argument('<room>', 'room id or alias')
    .addOption(
      new Option('--membership <kind>', 'which members')
        .choices(['join', 'invite', 'leave', 'ban', 'knock', 'all'])
        .default('join'),
    )
    .option('--wait <duration>', 'how long to wait, such as 30s or 5m', '5m')
    .action(async (room: string, flags: ClientFlags & { membership: string; wait: string }) => {
      const { members } = await import('./commands/members.ts');
      const { membership, wait } = flags;
      await members(room, { ...clientOptions(flags), membership, wait }, output);
    });

  addRoomCommands(program, { client, clientOptions, listenForStop, output });

  client('corrections', 'List what turned out otherwise in a room than it had been judged, and why.')
    .argument('<room>', 'room id or alias')
    .action(async (room: string, flags: ClientFlags) => {
      const { corrections } = await import('./commands/corrections.ts');
      await corrections(room, clientOptions(flags), output);
    });

  client('explain', 'Tell the story of one event: from whom it came, by what it was judged, what changed and why.')
    .argument('<event>', "event id, in quotes: '$…'")
    .action(async (event: string, flags: ClientFlags) => {
      const { explain } = await import('./commands/explain.ts');
      await explain(event, clientOptions(flags), output);
    });

  addJournalCommands(program, { client, clientOptions, listenForStop, output });

  addUserCommands(program, { client, clientOptions, output });
  addServiceCommands(program, { client, clientOptions, output });

  program
    .command('up')
    .description(
      'Run everything on this machine, with a PostgreSQL and a Temporal server of its own where none is configured.',
    )
    .action(async () => {
      const { up } = await import('./commands/up.ts');
      await up({ env, ...configFlag(), self, stop: listenForStop() }, output);
    });

  program
    .command('serve')
    .description(
      'Run the listeners: federation, client and operator API. Any number of them over one database and Temporal.',
    )
    .action(async () => {
      const { serve } = await import('./commands/serve.ts');
      await serve({ env, ...configFlag(), version, stop: listenForStop() });
    });

  program
    .command('worker')
    .description('Run the Temporal worker, which makes rooms whole. Any number of them.')
    .action(async () => {
      const { worker } = await import('./commands/worker.ts');
      await worker({ env, ...configFlag(), version, stop: listenForStop() });
    });

  program
    .command('demo')
    .description('Join a large room on this machine and watch it become whole. Keeps nothing.')
    .addOption(
      new Option('--resident <kind>', 'who has the room: a simulated federation, or a real homeserver')
        .choices(['simulated', 'synapse'])
        .default('simulated'),
    )
    .option('--members <number>', 'members of the room (default: 13000; with Synapse 200)')
    .option('--servers <number>', 'servers they are on (default: a tenth of the members, at most 1300)')
    .option('--residents <number>', 'servers that are asked about the room (default: 3)')
    .option('--latency <ms>', 'milliseconds before each answer (default: 0)')
    .option('--bandwidth <bytes>', 'bytes a second of each connection, such as 512K or 10M (default: any)')
    .option('--fail <names>', 'faults, comma-separated: the first strikes the first server asked, the second the next')
    .option('--seed <number>', 'another makes another room of the same size (default: 1)')
    .option('--classic', 'ask for the whole state at once, for comparison')
    .option('--json', 'print the figures as JSON when the room is whole; all else goes to standard error')
    .option('--once', 'end when the room is whole and compared; exits with 1 if it differs')
    .addHelpText('after', faultsHelp)
    .action(async (flags: DemoFlags) => {
      const { demo } = await import('./commands/demo.ts');
      await demo({ env, self, version, stop: listenForStop(), flags }, output);
    });

  program
    .command('migrate')
    .description('Bring the database to this version and register the search attributes in Temporal. Safe to repeat.')
    .action(async () => {
      const { migrate } = await import('./commands/migrate.ts');
      await migrate({ env, ...configFlag() }, output);
    });

  program
    .command('doctor')
    .description(
      'Look at everything Rejoinder needs; say what is missing and how to get it. Exits with 1 if something is.',
    )
    .option('--json', 'print the findings as JSON')
    .action(async (flags: ClientFlags) => {
      const { doctor } = await import('./commands/doctor.ts');
      await doctor({ env, ...configFlag(), json: flags.json === true }, output);
    });

  program
    .command('config')
    .description('Check the configuration, or print what is in force.')
    .addArgument(new Argument('<what>', 'check: validate; dump: print, secrets masked').choices(['check', 'dump']))
    .action(async (what: string) => {
      const { checkConfig, dumpConfig } = await import('./commands/config.ts');
      (what === 'check' ? checkConfig : dumpConfig)({ env, ...configFlag() }, output);
    });

  addInspectCommands(program, output);
  return program;
}
