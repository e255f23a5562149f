/** What a sync is given; nothing ambient. */
import { type Clock } from '../clock.ts';
import { type Notifier } from '../store/notify.ts';
import { type Store } from '../store/open-store.ts';

export interface SyncContext {
  readonly store: Store;
  readonly notifier: Notifier;
  readonly clock: Clock;
}
