/** Users with accounts: listed and made, given another password, and their accounts closed. */
import { type Account } from '../accounts/contract.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { changedUserAnswer, usersAnswer } from './answer-forms.ts';
import { type OperatorEndpoint } from './endpoints.ts';
import {
  newUserBody,
  parseNewPassword,
  parseNewUser,
  parseUserParameter,
  parseUsersQuery,
  passwordBody,
  usersQuery,
} from './requests.ts';

/** Of one page. */
const USERS_MAX = 1_000;

export const USER_ENDPOINTS: readonly OperatorEndpoint[] = [
  {
    method: 'GET',
    path: '/_rejoinder/v1/users',
    summary: 'Who has an account, or had one, a page.',
    query: usersQuery,
    answers: usersAnswer,
    answer: async ({ query }, { ports: { users } }) => {
      const found = await users.list(parseUsersQuery(query).from, USERS_MAX);
      const next = found.length === USERS_MAX ? found.at(-1)?.userId : undefined;
      return { users: found.map(userAnswer), next: next ?? null };
    },
  },
  {
    method: 'POST',
    path: '/_rejoinder/v1/users',
    summary: 'Makes an account.',
    body: newUserBody,
    answers: changedUserAnswer,
    answer: async ({ body }, { ports: { users } }) => {
      const { name, password, admin } = parseNewUser(body);
      return { user_id: await users.createUser({ name, password, isAdmin: admin }) };
    },
  },
  {
    method: 'POST',
    path: '/_rejoinder/v1/users/:user/password',
    summary: 'Gives a user another password, and logs him out everywhere.',
    body: passwordBody,
    answers: changedUserAnswer,
    answer: async ({ params, body }, { serverName, ports: { users } }) => {
      const userId = parseUserParameter(params['user'] ?? '', serverName);
      await users.setPassword(userId, parseNewPassword(body).password, null);
      return { user_id: userId };
    },
  },
  {
    method: 'POST',
    path: '/_rejoinder/v1/users/:user/deactivate',
    summary: 'Closes an account for good; nobody gets its name again.',
    answers: changedUserAnswer,
    answer: async ({ params }, { serverName, ports: { users } }) => {
      const userId = parseUserParameter(params['user'] ?? '', serverName);
      await users.deactivate(userId);
      return { user_id: userId };
    },
  },
];

function userAnswer({ userId, isAdmin, createdAt, deactivatedAt }: Account): JsonObject {
  return {
    user_id: userId,
    admin: isAdmin,
    created_at: new Date(createdAt).toISOString(),
    deactivated_at: deactivatedAt === null ? null : new Date(deactivatedAt).toISOString(),
  };
}
