/** What the use cases are given: the store, the network, keys and clocks. Built once a process, by `serve` and `worker`. */
import { type Clock } from '../clock.ts';
import { type FederationClient } from '../federation/client.ts';
import { type KeyRing } from '../federation/key-ring.ts';
import { type Logger } from '../logging.ts';
import { type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';
import { type ResyncPolicy } from '../resync/policy.ts';
import { type Notifier } from '../store/notify.ts';
import { type Store } from '../store/open-store.ts';
import { type VerificationPool } from '../verification/pool.ts';

export interface RoomsContext {
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  readonly store: Store;
  readonly notifier: Notifier;
  readonly federation: FederationClient;
  readonly keyRing: KeyRing;
  readonly verification: VerificationPool;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly logger: Logger;
  readonly policy: ResyncPolicy;
  /** Wakes the room's workflow. May fail: the sweep finds the room then. */
  readonly ring: (roomId: RoomId) => Promise<void>;
  /** Sends a server now what it is owed of a room, and waits for that; absent in a process that sends nothing. */
  readonly tell?: (roomId: RoomId, server: ServerName, signal: AbortSignal) => Promise<void>;
}
