/** The connection of a worker, which is of the SDK's native kind. Apart from the client's, for that kind loads the whole of the SDK's core. */
import { NativeConnection } from '@temporalio/worker';
import { type Opened, type TemporalTarget, openWith, readAccess } from './connection.ts';

/** Throws when the server does not answer. */
export async function openNativeConnection(target: TemporalTarget): Promise<Opened<NativeConnection>> {
  let opened: NativeConnection | undefined;
  const { key, ...tls } = await readAccess(target, (renewed) => void opened?.setApiKey(renewed));
  return openWith(key, async () => {
    opened = await NativeConnection.connect({
      address: target.address,
      ...tls,
      ...(key === undefined ? {} : { apiKey: key.current() }),
    });
    return opened;
  });
}
