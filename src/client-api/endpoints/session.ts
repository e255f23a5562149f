/**
 * Registering, logging in and out.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#login and #account-registration-and-management
 */
import { z } from 'zod';
import { type Login, type NewSession } from '../../accounts/contract.ts';
import { type KnownService } from '../../app-services/contract.ts';
import { MatrixError } from '../../http/matrix-error.ts';
import { unrecognized } from '../../http/endpoint.ts';
import { parseUserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type ClientRequest, bodyOf, deviceOf, queryText, readBody, readMembers } from '../client-request.ts';
import { type ClientContext, type OpenEndpoint, type UserEndpoint } from '../context.ts';
import { requireDummy, requirePassword } from '../interactive.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { sourceOf } from '../rate-limits.ts';
import { tokenOf } from '../requester.ts';
import { requireFreeName, requireUntaken } from '../reserved.ts';

const text = z.string({ error: 'a string' });
const flag = z.boolean({ error: 'true or false' });

const sessionMembers = {
  device_id: text.optional(),
  initial_device_display_name: text.optional(),
  refresh_token: flag.default(false),
};

const loginBody = z.object({
  type: text,
  identifier: z.object({ type: text, user: text.optional() }, { error: 'an object' }).optional(),
  user: text.optional(),
  password: text.optional(),
  token: text.optional(),
  ...sessionMembers,
});

const registerBody = z.object({
  username: text.optional(),
  password: text.optional(),
  inhibit_login: flag.default(false),
  ...sessionMembers,
});

const secretBody = z.object({
  nonce: text,
  username: text,
  password: text,
  admin: flag.default(false),
  user_type: text.nullish(),
  mac: text,
  displayname: text.nullish(),
});

export const OPEN_SESSION_ENDPOINTS: readonly OpenEndpoint[] = [
  ...inForms<ClientRequest, ClientContext>(R0_AND_V3, {
    method: 'GET',
    path: '/login',
    answer: () => ({
      flows: [
        { type: 'm.login.password' },
        { type: 'm.login.token', get_login_token: true },
        { type: 'm.login.application_service' },
      ],
    }),
  }),
  ...inForms<ClientRequest, ClientContext>(R0_AND_V3, { method: 'POST', path: '/login', answer: logIn }),
  ...inForms<ClientRequest, ClientContext>(R0_AND_V3, { method: 'POST', path: '/register', answer: register }),
  ...inForms<ClientRequest, ClientContext>(R0_AND_V3, {
    method: 'GET',
    path: '/register/available',
    answer: async (request, context) => {
      const { accounts, isRegistrationOpen, limiters } = context;
      if (!isRegistrationOpen) throw registrationClosed();
      limiters.registration.take(sourceOf(request.address));
      const name = queryText(request, 'username');
      if (name === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'username: expected a name');
      requireFreeName(name, context);
      await accounts.requireAvailable(name);
      return { available: true };
    },
  }),
  ...inForms<ClientRequest, ClientContext>(['v3'], {
    method: 'POST',
    path: '/refresh',
    answer: async (request, { accounts }) => {
      const { refresh_token: token } = readBody(request, z.object({ refresh_token: text }));
      return tokensAnswer(await accounts.refresh(token));
    },
  }),
  {
    method: 'GET',
    path: '/_synapse/admin/v1/register',
    answer: (_request, { secretRegistration }) =>
      secretRegistration === null ? unrecognized(404)() : { nonce: secretRegistration.nonce() },
  },
  { method: 'POST', path: '/_synapse/admin/v1/register', answer: registerBySecret },
];

export const SESSION_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/logout',
    answer: async (request, { accounts }) => {
      // The token of an application service ends with its registration: what can be ended is a device that it names.
      await accounts.logOut(deviceOf(request));
      return {};
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/logout/all',
    answer: async ({ requester }, { accounts }) => {
      await accounts.logOutEverywhere(requester.userId);
      return {};
    },
  } satisfies UserEndpoint),
  ...inForms(['v1'], {
    method: 'POST',
    path: '/login/get_token',
    answer: async (request, context) => {
      const { raw, requester } = request;
      await requirePassword(raw.length === 0 ? undefined : bodyOf(request)['auth'], requester.userId, context);
      const { loginToken, expiresInMs } = await context.accounts.giveLoginToken(requester.userId);
      return { login_token: loginToken, expires_in_ms: expiresInMs };
    },
  } satisfies UserEndpoint),
];

async function logIn(request: ClientRequest, context: ClientContext): Promise<JsonObject> {
  const { accounts, limiters } = context;
  const body = readBody(request, loginBody);
  if (body.type === 'm.login.token') {
    if (body.token === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'token: expected a login token');
    limiters.loginByAddress.take(sourceOf(request.address));
    return loginAnswer(await accounts.logInByToken(body.token, newSession(request, body)), context);
  }
  if (body.type !== 'm.login.password' && body.type !== 'm.login.application_service') {
    const known = 'm.login.password, m.login.token and m.login.application_service';
    throw new MatrixError(400, 'M_UNKNOWN', `only ${known} are known here`);
  }
  if (body.identifier !== undefined && body.identifier.type !== 'm.id.user') {
    throw new MatrixError(400, 'M_UNKNOWN', 'only m.id.user is known here');
  }
  const user = body.identifier?.user ?? body.user;
  if (user === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'identifier.user: expected a user');
  if (body.type === 'm.login.application_service') {
    return logInForService(request, context, user, newSession(request, body));
  }
  if (body.password === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'password: expected a password');
  limiters.loginByAddress.take(sourceOf(request.address));
  limiters.loginByAccount.take(user.startsWith('@') ? user : `@${user}:${context.serverName}`);
  return loginAnswer(await accounts.logIn(user, body.password, newSession(request, body)), context);
}

/** Source: https://spec.matrix.org/v1.16/client-server-api/#appservice-login */
async function logInForService(
  request: ClientRequest,
  context: ClientContext,
  name: string,
  session: NewSession,
): Promise<JsonObject> {
  const service = serviceOf(request, context);
  const userId = parseUserId(name.startsWith('@') ? name : `@${name}:${context.serverName}`);
  if (userId === undefined || !service.isOwnUser(userId)) {
    throw new MatrixError(403, 'M_EXCLUSIVE', 'that user is not in a namespace of this application service');
  }
  requireUntaken(userId, context, service);
  if ((await context.accounts.knownProfile(userId)) === undefined) {
    throw new MatrixError(403, 'M_FORBIDDEN', `${userId} has no account`);
  }
  return loginAnswer(await context.accounts.startSession(userId, session), context);
}

/** Source: https://spec.matrix.org/v1.16/application-service-api/#server-admin-style-permissions */
async function registerForService(
  request: ClientRequest,
  context: ClientContext,
  body: z.output<typeof registerBody>,
): Promise<JsonObject> {
  const service = serviceOf(request, context);
  if (body.username === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'username: expected a name');
  requireFreeName(body.username, context, service);
  const user = { name: body.username, password: null, isAdmin: false };
  const userId = await context.accounts.createUser(user);
  if (body.inhibit_login) return { user_id: userId, home_server: context.serverName };
  return loginAnswer(await context.accounts.startSession(userId, newSession(request, body)), context);
}

/** The application service whose token it is. */
function serviceOf(request: ClientRequest, { appServices }: ClientContext): KnownService {
  const service = appServices.ofToken(tokenOf(request));
  if (service === undefined) throw new MatrixError(401, 'M_UNKNOWN_TOKEN', "that is no application service's token");
  return service;
}

async function register(request: ClientRequest, context: ClientContext): Promise<JsonObject> {
  const { accounts, limiters, isRegistrationOpen } = context;
  const kind = queryText(request, 'kind') ?? 'user';
  if (kind === 'guest') throw new MatrixError(403, 'M_GUEST_ACCESS_FORBIDDEN', 'there are no guests here');
  if (kind !== 'user') throw new MatrixError(400, 'M_INVALID_PARAM', 'kind: expected user or guest');
  const members = bodyOf(request);
  if (members['type'] === 'm.login.application_service') {
    return registerForService(request, context, readMembers(members, registerBody));
  }
  if (!isRegistrationOpen) throw registrationClosed();
  const body = readMembers(members, registerBody);
  if (body.username !== undefined) requireFreeName(body.username, context);
  // Whoever is asked to authenticate has a name that he can have.
  if (body.username !== undefined) await accounts.requireAvailable(body.username);
  await requireDummy(members['auth']);
  if (body.password === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'password: expected a password');
  limiters.registration.take(sourceOf(request.address));
  const userId = await accounts.registerUser({ name: body.username, password: body.password, isAdmin: false });
  if (body.inhibit_login) return { user_id: userId, home_server: context.serverName };
  return loginAnswer(await accounts.startSession(userId, newSession(request, body)), context);
}

async function registerBySecret(request: ClientRequest, context: ClientContext): Promise<JsonObject> {
  const { accounts, secretRegistration } = context;
  if (secretRegistration === null) return unrecognized(404)();
  const body = readBody(request, secretBody);
  const verdict = secretRegistration.check({ ...body, userType: body.user_type ?? undefined });
  if (verdict === 'stale') throw new MatrixError(400, 'M_UNKNOWN', 'that nonce is not one of ours, or too old');
  if (verdict === 'wrong') throw new MatrixError(403, 'M_FORBIDDEN', 'that is not the right mac');
  const { username: name, password, admin: isAdmin, displayname } = body;
  requireFreeName(name, context);
  const userId = await accounts.createUser({ name, password, isAdmin });
  if (displayname != null) await accounts.setProfile(userId, 'displayName', displayname);
  const session = { refreshable: false, address: request.address };
  return loginAnswer(await accounts.startSession(userId, session), context);
}

function registrationClosed(): MatrixError {
  return new MatrixError(403, 'M_FORBIDDEN', 'registration is closed here');
}

function newSession({ address }: ClientRequest, body: z.output<z.ZodObject<typeof sessionMembers>>): NewSession {
  return {
    deviceId: body.device_id,
    displayName: body.initial_device_display_name,
    refreshable: body.refresh_token,
    address,
  };
}

function loginAnswer(login: Login, { serverName, publicBaseUrl }: ClientContext): JsonObject {
  return {
    user_id: login.userId,
    device_id: login.deviceId,
    // Not in the specification any more, and still read.
    home_server: serverName,
    ...tokensAnswer(login),
    ...(publicBaseUrl === null ? {} : { well_known: { 'm.homeserver': { base_url: publicBaseUrl } } }),
  };
}

function tokensAnswer({ accessToken, refreshToken, expiresInMs }: Omit<Login, 'userId' | 'deviceId'>): JsonObject {
  return {
    access_token: accessToken,
    ...(refreshToken === null ? {} : { refresh_token: refreshToken }),
    ...(expiresInMs === null ? {} : { expires_in_ms: expiresInMs }),
  };
}
