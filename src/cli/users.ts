/** The `users` commands on the command line: arguments and help. What they do is loaded when they are called. */
import { type Command } from 'commander';
import { type ClientCommands } from './journal.ts';

interface UsersFlags {
  readonly url?: string;
  readonly json?: true;
}

interface PasswordFlags extends UsersFlags {
  readonly passwordFile?: string;
}

/** Adds `rejoinder users` with what can be done with it. */
export function addUserCommands(program: Command, commands: Omit<ClientCommands, 'listenForStop'>): void {
  const { client, clientOptions, output } = commands;
  const users = program.command('users').description('Who can log in with a Matrix client.');
  const withPassword = (command: Command): Command =>
    command.option(
      '--password-file <file>',
      'holds the password, - is standard input (default: one is made and printed)',
    );

  client('list', 'List accounts, the closed ones too.', users).action(async (flags: UsersFlags) => {
    const { listUsers } = await import('./commands/users.ts');
    await listUsers(clientOptions(flags), output);
  });
  withPassword(client('create', 'Make an account.', users))
    .argument('<name>', 'local part or whole user id')
    .option('--admin', 'make it an administrator')
    .action(async (name: string, flags: PasswordFlags & { admin?: true }) => {
      const { createUser } = await import('./commands/users.ts');
      const { passwordFile, admin } = flags;
      await createUser(name, { ...clientOptions(flags), passwordFile, admin: admin === true }, output);
    });
  withPassword(client('reset-password', 'Give a user another password, and log him out everywhere.', users))
    .argument('<user>', 'local part or whole user id')
    .action(async (user: string, flags: PasswordFlags) => {
      const { resetPassword } = await import('./commands/users.ts');
      await resetPassword(user, { ...clientOptions(flags), passwordFile: flags.passwordFile }, output);
    });
  client('deactivate', 'Close an account for good; nobody gets its name again.', users)
    .argument('<user>', 'local part or whole user id')
    .action(async (user: string, flags: UsersFlags) => {
      const { deactivateUser } = await import('./commands/users.ts');
      await deactivateUser(user, clientOptions(flags), output);
    });
}
