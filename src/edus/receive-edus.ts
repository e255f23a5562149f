/**
 * What other servers send besides events: to devices, of devices, and what passes. An EDU that is of no form, or about somebody who is not of
 * the server that sends it, is dropped and costs nothing else of its transaction.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#edus
 */
import { receiveDeviceLists } from '../devices/receive-device-lists.ts';
import { receiveToDevice } from '../devices/receive-to-device.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type EduType } from '../matrix/transactions.ts';
import { type RoomsContext } from '../rooms/context.ts';
import { type ReceivedEdu } from '../rooms/contract.ts';
import { type PassingReceiver } from './passing.ts';

export interface EdusContext extends Pick<RoomsContext, 'store' | 'clock' | 'logger'> {
  /** Takes what passes; absent: that is dropped. */
  readonly passing?: PassingReceiver;
  /** Told how many of a transaction were dropped. */
  readonly onDropped?: (count: number) => void;
}

/** Takes in the EDUs of one transaction; those that came before change nothing. They are durable, where they are to be, once it resolves. */
export async function receiveEdus(
  context: EdusContext,
  origin: ServerName,
  edus: readonly ReceivedEdu[],
): Promise<void> {
  if (edus.length === 0) return;
  const { store, clock, logger, passing } = context;
  const of = (type: EduType) => edus.flatMap((edu) => (edu.type === type ? [edu.content] : []));
  const ofDevices = [...of('m.device_list_update'), ...of('m.signing_key_update')];
  const dropped =
    (await receiveToDevice({ store, now: clock.now() }, origin, of('m.direct_to_device'))) +
    (await receiveDeviceLists(store, origin, ofDevices)) +
    ((await passing?.receiveTyping(origin, of('m.typing'))) ?? 0) +
    ((await passing?.receiveReceipts(origin, of('m.receipt'))) ?? 0) +
    ((await passing?.receivePresence(origin, of('m.presence'))) ?? 0);
  if (dropped > 0) {
    context.onDropped?.(dropped);
    logger.info({ origin, dropped }, 'a transaction held EDUs that are of no form, or not of its origin');
  }
}
