/**
 * Keys that a client publishes of its device.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#key-management-api
 */
import { MatrixError } from '../../http/matrix-error.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { bodyOf } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';

export const KEY_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/keys/upload',
    answer: async (request, { accounts }) => {
      const body = bodyOf(request);
      const counts = await accounts.uploadKeys(request.requester, {
        deviceKeys: objectOf(body, 'device_keys'),
        oneTimeKeys: objectOf(body, 'one_time_keys') ?? {},
        fallbackKeys: objectOf(body, 'fallback_keys') ?? {},
      });
      return { one_time_key_counts: counts };
    },
  } satisfies UserEndpoint),
];

function objectOf(body: JsonObject, name: string): JsonObject | undefined {
  const { [name]: value } = body;
  // Some clients send null for what they have not.
  if (value === undefined || value === null) return undefined;
  if (isJsonObject(value)) return value;
  throw new MatrixError(400, 'M_BAD_JSON', `${name}: expected an object`);
}
