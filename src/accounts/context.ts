/** What the use cases on accounts are given; nothing ambient. */
import { type Clock } from '../clock.ts';
import { type Store } from '../store/open-store.ts';
import { type Passwords } from './passwords.ts';

export interface AccountsContext {
  readonly store: Store;
  readonly clock: Clock;
  readonly passwords: Passwords;
  /** How long an access token opens the door that can be refreshed, milliseconds. */
  readonly accessTokenMs: number;
  /** Of one user. Whoever has so many logs in on those alone. */
  readonly devicesMax: number;
}
