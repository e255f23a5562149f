/**
 * The context of the use cases out of its parts, in the order of their needs: store, notifications, federation, key ring,
 * verification, each counted. Whatever is started is handed to `onClose` at once, so that a failure half-way leaves nothing.
 */
import { type FederationClientConfig, createFederationClient } from '../../federation/client.ts';
import { type KeyRingConfig, createKeyRing } from '../../federation/key-ring.ts';
import { type Metrics } from '../../metrics.ts';
import { type RoomsContext } from '../../rooms/context.ts';
import { createWelcome } from '../../rooms/receive/welcome.ts';
import { countPartialRooms } from '../../store/journal/rooms.ts';
import { countCorrectionsEverywhere } from '../../store/events/corrections.ts';
import { countLackingEverywhere } from '../../store/events/missing-events.ts';
import { readBacklog } from '../../store/tables/staged-reads.ts';
import { createNotifier } from '../../store/notify.ts';
import { type Store } from '../../store/open-store.ts';
import { createKeyStore } from '../../store/tables/keys.ts';
import { createVerificationPool } from '../../verification/pool.ts';

type Given = 'serverName' | 'signingKey' | 'clock' | 'random' | 'logger';

export interface RoomsParts extends Pick<RoomsContext, Given | 'policy' | 'ring' | 'tell'> {
  readonly oldSigningKeys: NonNullable<KeyRingConfig['oldSigningKeys']>;
  readonly trustedKeyServers: KeyRingConfig['trustedKeyServers'];
  /** Open, and closed by whoever opened it. */
  readonly store: Store;
  readonly federation: Omit<FederationClientConfig, Given>;
  readonly verificationThreads: number;
  readonly metrics: Metrics;
  readonly onClose: (what: string, close: () => Promise<void>) => void;
}

/** Puts the context together; nothing is asked of database or network yet. */
export function assembleRooms(parts: RoomsParts): RoomsContext {
  const { serverName, signingKey, store, clock, random, logger, metrics, onClose } = parts;
  metrics.watchPartialRooms(() => countPartialRooms(store));
  metrics.watchBacklog(async () => ({
    ...(await readBacklog(store, null)),
    ...(await countLackingEverywhere(store)),
    ...(await countCorrectionsEverywhere(store)),
  }));
  const client = createFederationClient({ ...parts.federation, serverName, signingKey, clock, random, logger });
  onClose('federation client', () => client.close());
  const federation = metrics.countRequests(client);
  const keyRing = createKeyRing({
    serverName,
    signingKey,
    oldSigningKeys: parts.oldSigningKeys,
    client: federation,
    keyStore: createKeyStore(store),
    readWelcome: createWelcome(store),
    trustedKeyServers: parts.trustedKeyServers,
    clock,
    logger,
  });
  const verification = createVerificationPool({ threads: parts.verificationThreads });
  onClose('verification threads', () => verification.close());
  const notifier = createNotifier(store, logger);
  onClose('notifications', () => notifier.close());
  return {
    serverName,
    signingKey,
    store,
    notifier,
    federation,
    keyRing: metrics.countKeys(keyRing),
    verification: metrics.countVerifications(verification),
    clock,
    random,
    logger,
    policy: parts.policy,
    ring: parts.ring,
    ...(parts.tell === undefined ? {} : { tell: parts.tell }),
  };
}
