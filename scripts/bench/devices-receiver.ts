/** The process of `bench:devices` that takes in what other servers send to devices, to be killed: it says when a transaction is taken. */
import { receiveEdus } from '../../src/edus/receive-edus.ts';
import { createLogger } from '../../src/logging.ts';
import { systemClock } from '../../src/clock.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { type ReceivedEdu } from '../../src/rooms/contract.ts';
import { openStore } from '../../src/store/open-store.ts';

/** A transaction of a server. */
export interface ToReceiver {
  readonly nth: number;
  readonly origin: ServerName;
  readonly edus: readonly ReceivedEdu[];
}

const [databaseUrl = '', serverName = ''] = process.argv.slice(2);
const store = openStore({
  ...{ databaseUrl, serverName: serverName as ServerName, poolSizeMax: 10, applicationName: 'bench receiver' },
});
const context = { store, clock: systemClock, logger: createLogger({ level: 'warn' }) };

process.on('message', ({ nth, origin, edus }: ToReceiver) => {
  void receiveEdus(context, origin, edus).then(() => process.send?.(nth));
});
process.on('disconnect', () => process.exit());
process.send?.('ready');
