/** The loop that writes down what other servers are to be told of devices. Any number of processes run it: each takes what no other is at. */
import { startRepeating } from '../repeating.ts';
import { JoinedServers } from '../store/snapshots/joined-servers.ts';
import { type DevicesContext } from './context.ts';
import { tellDeviceLists } from './tell-device-lists.ts';

/** How long a change waits at the most. */
const POLL_MS = 1_000;

/** Starts at once; `close` ends it after what it is at. */
export function startTellingDevices(context: DevicesContext): { close(): Promise<void> } {
  const joined = new JoinedServers();
  const tell = async (isClosing: () => boolean): Promise<void> => {
    while (!isClosing() && (await tellDeviceLists(context, joined))) context.onSaid();
  };
  return startRepeating(tell, {
    everyMs: POLL_MS,
    onFailed: (error) =>
      context.logger.warn({ err: error }, 'other servers could not be told of devices; it is tried again'),
  });
}
