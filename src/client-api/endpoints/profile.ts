/**
 * What users call themselves, for anybody who asks; of users of other servers these are asked.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#profiles
 */
import { z } from 'zod';
import { type FullProfile, type Profile } from '../../accounts/contract.ts';
import { type OpenRequest } from '../../http/endpoint.ts';
import { MatrixError } from '../../http/matrix-error.ts';
import { type UserId, domainOf, parseUserId } from '../../matrix/identifiers.ts';
import { ownValue } from '../../matrix/content.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type ClientRequest, type UserRequest, bodyOf, readBody } from '../client-request.ts';
import { type ClientContext, type OpenEndpoint, type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';

const FIELDS = { displayname: 'displayName', avatar_url: 'avatarUrl' } as const satisfies Record<string, keyof Profile>;
type Field = keyof typeof FIELDS;
const NAMES = Object.keys(FIELDS) as Field[];

export const OPEN_PROFILE_ENDPOINTS: readonly OpenEndpoint[] = [
  ...inForms<ClientRequest, ClientContext>(R0_AND_V3, {
    method: 'GET',
    path: '/profile/:userId',
    answer: async (request, context) => {
      const profile = await readProfile(request, context);
      return Object.assign({}, profile.fields, ...NAMES.map((name) => member(profile, name))) as JsonObject;
    },
  }),
  ...NAMES.flatMap((name) =>
    inForms<ClientRequest, ClientContext>(R0_AND_V3, {
      method: 'GET',
      path: `/profile/:userId/${name}`,
      answer: async (request, context) => member(await readProfile(request, context), name),
    }),
  ),
  ...inForms<ClientRequest, ClientContext>(R0_AND_V3, {
    method: 'GET',
    path: '/profile/:userId/:keyName',
    answer: async (request, context) => {
      const { keyName = '' } = request.params;
      const value = ownValue((await readProfile(request, context)).fields, keyName);
      if (value !== undefined) return { [keyName]: value };
      throw new MatrixError(404, 'M_NOT_FOUND', 'nothing of that name is said in this profile');
    },
  }),
];

/** Fields besides names and avatars, which are told to nobody but who asks. */
const FIELD_ENDPOINTS: readonly UserEndpoint[] = (
  [
    {
      method: 'PUT',
      path: '/profile/:userId/:keyName',
      answer: async (request, { accounts }) => {
        const userId = ownUser(request);
        const { keyName = '' } = request.params;
        const value = ownValue(bodyOf(request), keyName);
        if (value === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'the body does not hold that field');
        await accounts.setProfileField(userId, keyName, value);
        return {};
      },
    },
    {
      method: 'DELETE',
      path: '/profile/:userId/:keyName',
      answer: async (request, { accounts }) => {
        await accounts.setProfileField(ownUser(request), request.params['keyName'] ?? '', undefined);
        return {};
      },
    },
  ] satisfies UserEndpoint[]
).flatMap((endpoint: UserEndpoint) => inForms(R0_AND_V3, endpoint));

export const PROFILE_ENDPOINTS: readonly UserEndpoint[] = [
  ...NAMES.flatMap((name) => [
    ...inForms(R0_AND_V3, {
      method: 'PUT',
      path: `/profile/:userId/${name}`,
      answer: (request, context) => {
        const body = readBody(request, z.object({ [name]: z.string({ error: 'a string' }).nullable() }));
        return setField(request, context, name, body[name] ?? null);
      },
    } satisfies UserEndpoint),
    ...inForms(R0_AND_V3, {
      method: 'DELETE',
      path: `/profile/:userId/${name}`,
      answer: (request, context) => setField(request, context, name, null),
    } satisfies UserEndpoint),
  ]),
  ...FIELD_ENDPOINTS,
];

function ownUser(request: UserRequest): UserId {
  const { userId } = request.requester;
  if (userOf(request) === userId) return userId;
  throw new MatrixError(403, 'M_FORBIDDEN', 'that is not your profile');
}

async function setField(
  request: UserRequest,
  { accounts, acts }: ClientContext,
  name: Field,
  value: string | null,
): Promise<JsonObject> {
  const userId = ownUser(request);
  await accounts.setProfile(userId, FIELDS[name], value === '' ? null : value);
  acts.profileChanged();
  return {};
}

async function readProfile(
  request: ClientRequest,
  { accounts, directory, serverName, appServices }: ClientContext,
): Promise<FullProfile> {
  const userId = userOf(request);
  if (domainOf(userId) === serverName) {
    // Who is not there may be made by the application service that has his name.
    const known = await accounts.knownProfile(userId);
    if (known === undefined) await appServices.provideUser(userId);
    return known ?? { fields: {}, ...(await accounts.profile(userId)) };
  }
  const profile = await directory.profile(userId, request.signal);
  if (profile === undefined) throw new MatrixError(404, 'M_NOT_FOUND', `nothing is known of ${userId}`);
  return { fields: {}, ...profile };
}

function userOf({ params }: OpenRequest): UserId {
  const userId = parseUserId(params['userId']);
  if (userId === undefined) throw new MatrixError(400, 'M_INVALID_PARAM', 'that is not a user id');
  return userId;
}

function member(profile: Profile, name: Field): JsonObject {
  const value = profile[FIELDS[name]];
  return value === null ? {} : { [name]: value };
}
