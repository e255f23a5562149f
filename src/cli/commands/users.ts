/** `rejoinder users …`: who has an account here; make one, give it another password, close it. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { CliError } from '../failure.ts';
import { changedUserAnswer, usersAnswer } from '../../operator/answer-forms.ts';
import { understood } from '../understood.ts';
import { type ClientOptions, connectOperator } from '../operator-client.ts';
import { type Output, table } from '../output.ts';

export interface UsersOptions extends ClientOptions {
  readonly json: boolean;
}

export interface PasswordOptions extends UsersOptions {
  /** The file that holds the password; absent: one is made, and printed. */
  readonly passwordFile: string | undefined;
}

/** 120 bits, which nobody types twice. */
const PASSWORD_BYTES = 15;

/** Prints who has an account, or had one. */
export async function listUsers(options: UsersOptions, output: Output): Promise<void> {
  const client = await connectOperator(options);
  try {
    const rows: string[][] = [];
    for (let from: string | null = ''; from !== null;) {
      const { body } = await client.ask(`/users?from=${encodeURIComponent(from)}`);
      const { users, next }: { users: UserAnswer[]; next: string | null } = understood(usersAnswer, body);
      for (const user of users) {
        if (options.json) output.line(JSON.stringify(user));
        rows.push([user.user_id, user.admin ? 'admin' : '', user.created_at, user.deactivated_at ?? '']);
      }
      from = next;
    }
    if (options.json) return;
    if (rows.length === 0) output.line('No users. Make one: rejoinder users create NAME');
    else for (const line of table(['USER', 'ROLE', 'CREATED', 'DEACTIVATED'], rows)) output.line(line);
  } finally {
    await client.close();
  }
}

interface UserAnswer {
  readonly user_id: string;
  readonly admin: boolean;
  readonly created_at: string;
  readonly deactivated_at: string | null;
}

/** Makes an account, and prints its password where one was made for it. */
export async function createUser(
  name: string,
  options: PasswordOptions & { readonly admin: boolean },
  output: Output,
): Promise<void> {
  const given = await readPassword(options);
  const password = given ?? makePassword();
  const body = await post('/users', { name, password, admin: options.admin }, options);
  const { user_id: userId } = understood(changedUserAnswer, body);
  tell({ user_id: userId, ...(given === undefined ? { password } : {}) }, `${userId} can log in`, options, output);
}

/** Gives a user another password and logs him out everywhere. */
export async function resetPassword(user: string, options: PasswordOptions, output: Output): Promise<void> {
  const given = await readPassword(options);
  const password = given ?? makePassword();
  const body = await post(`/users/${encodeURIComponent(user)}/password`, { password }, options);
  const { user_id: userId } = understood(changedUserAnswer, body);
  const told = { user_id: userId, ...(given === undefined ? { password } : {}) };
  tell(told, `${userId} is logged out everywhere and has another password`, options, output);
}

/** Closes an account for good. */
export async function deactivateUser(user: string, options: UsersOptions, output: Output): Promise<void> {
  const body = await post(`/users/${encodeURIComponent(user)}/deactivate`, {}, options);
  const { user_id: userId } = understood(changedUserAnswer, body);
  tell({ user_id: userId }, `${userId} is logged out everywhere, and the account is closed for good`, options, output);
}

function tell(
  answer: { readonly user_id: string; readonly password?: string },
  what: string,
  { json }: UsersOptions,
  output: Output,
): void {
  if (json) {
    output.json(answer);
  } else {
    output.line(what);
    if (answer.password !== undefined) output.line(`  password  ${answer.password}`);
  }
}

async function post(path: string, body: object, options: UsersOptions): Promise<unknown> {
  const client = await connectOperator(options);
  try {
    return (await client.ask(path, { post: body })).body;
  } finally {
    await client.close();
  }
}

/** The file without the line end that editors add. */
async function readPassword({ passwordFile: file }: PasswordOptions): Promise<string | undefined> {
  if (file === undefined) return undefined;
  const text = await readFile(file === '-' ? '/dev/stdin' : file, 'utf8').catch((error: unknown) => {
    throw new CliError(`the password cannot be read: ${error instanceof Error ? error.message : String(error)}`, {
      hint: 'Name a file that holds it, or - for standard input.',
      exitCode: 2,
      cause: error,
    });
  });
  return text.replace(/\r?\n$/, '');
}

function makePassword(): string {
  return randomBytes(PASSWORD_BYTES).toString('base64url');
}
