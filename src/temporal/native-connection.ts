/** The connection of a worker, which is of the SDK's native kind. Apart from the client's, for that kind loads the whole of the SDK's core. */
import { NativeConnection } from '@temporalio/worker';
import { type TemporalTarget, readAccess } from './connection.ts';

/** And how it is closed. Throws when the server does not answer. */
export async function openNativeConnection(
  target: TemporalTarget,
): Promise<{ readonly connection: NativeConnection; readonly close: () => Promise<void> }> {
  let opened: NativeConnection | undefined;
  const { key, ...tls } = await readAccess(target, (renewed) => void opened?.setApiKey(renewed));
  try {
    const connection = await NativeConnection.connect({
      address: target.address,
      ...tls,
      ...(key === undefined ? {} : { apiKey: key.current() }),
    });
    opened = connection;
    return {
      connection,
      close: async () => {
        key?.stop();
        await connection.close();
      },
    };
  } catch (error) {
    key?.stop();
    throw error;
  }
}
