/**
 * Messages from device to device.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#send-to-device-messaging
 */
import { MatrixError } from '../../http/matrix-error.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { bodyOf, deviceOf } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { txnIdOf } from '../room-request.ts';

export const TO_DEVICE_ENDPOINTS: readonly UserEndpoint[] = inForms(R0_AND_V3, {
  method: 'PUT',
  path: '/sendToDevice/:eventType/:txnId',
  answer: async (request, { devices }) => {
    const [device, { messages }] = [deviceOf(request), bodyOf(request)];
    if (!isJsonObject(messages)) throw new MatrixError(400, 'M_MISSING_PARAM', 'messages: expected an object');
    const type = request.params['eventType'] ?? '';
    const to = Object.fromEntries(
      Object.entries(messages).map(([user, byDevice]) => {
        const isRight = isJsonObject(byDevice) && Object.values(byDevice).every(isJsonObject);
        if (isRight) return [user, byDevice as Readonly<Record<string, JsonObject>>] as const;
        throw new MatrixError(400, 'M_BAD_JSON', `messages.${user}: expected contents by device id`);
      }),
    );
    await devices.send(device, { type, txnId: txnIdOf(request) }, to);
    return {};
  },
} satisfies UserEndpoint);
