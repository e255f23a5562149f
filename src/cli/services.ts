/** The `services` commands on the command line: arguments and help. What they do is loaded when they are called. */
import { type Command } from 'commander';
import { type ClientCommands } from './journal.ts';

interface ServicesFlags {
  readonly url?: string;
  readonly json?: true;
}

interface DecisionFlags extends ServicesFlags {
  readonly by?: string;
  readonly reason?: string;
}

/** Adds `rejoinder services` with what can be done with it. */
export function addServiceCommands(program: Command, commands: Omit<ClientCommands, 'listenForStop'>): void {
  const { client, clientOptions, output } = commands;
  const services = program.command('services').description('Application services, and what they do not take.');
  const decided = (command: Command): Command =>
    command.option('--by <name>', 'who decides it, for the log').option('--reason <text>', 'why, for the log');

  client('list', 'List application services, and how far each has been told.', services).action(
    async (flags: ServicesFlags) => {
      const { listServices } = await import('./commands/services.ts');
      await listServices(clientOptions(flags), output);
    },
  );
  decided(client('retry', 'Send a service at once what it did not take.', services))
    .argument('<service>', 'its id')
    .action(async (service: string, flags: DecisionFlags) => {
      const { retryService } = await import('./commands/services.ts');
      await retryService(service, { ...clientOptions(flags), by: flags.by, reason: flags.reason }, output);
    });
  decided(client('skip', 'Give up what a service does not take: it is never told of it.', services))
    .argument('<service>', 'its id')
    .option('--transaction <id>', 'the transaction that waits, as list names it')
    .option('--everything', 'all that waits for it')
    .action(async (service: string, flags: DecisionFlags & { transaction?: string; everything?: true }) => {
      const { skipForService } = await import('./commands/services.ts');
      const { by, reason, transaction, everything } = flags;
      await skipForService(service, { ...clientOptions(flags), by, reason, transaction, everything }, output);
    });
}
