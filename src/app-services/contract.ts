/** What application services are to the edges, in shapes; no code. */
import { type RoomAlias, type UserId } from '../matrix/identifiers.ts';

/** A service as it shows itself by its token. */
export interface KnownService {
  readonly id: string;
  /** Who acts where it names nobody. */
  readonly sender: UserId;
  readonly isRateLimited: boolean;
  /** Whether it may act as this user. */
  isOwnUser(userId: UserId): boolean;
  /** Whether it may give out this alias. */
  isOwnAlias(alias: RoomAlias): boolean;
}

/** How asking a service whether it hears us ended. */
export type PingOutcome =
  | { readonly outcome: 'answered'; readonly durationMs: number }
  | { readonly outcome: 'no-url' | 'timeout' }
  | { readonly outcome: 'bad-status'; readonly status: number; readonly body: string }
  | { readonly outcome: 'unreachable'; readonly reason: string };

export interface AppServices {
  /** Whose token this is; `undefined`: no service's. */
  ofToken(token: string): KnownService | undefined;
  /** Whether a service has reserved this user id, and it is not this one. */
  isUserTaken(userId: UserId, by?: KnownService): boolean;
  /** The same of an alias. */
  isAliasTaken(alias: RoomAlias, by?: KnownService): boolean;
  /** Asks whoever has this user of ours in a namespace to make him; whether anybody says he has. Never throws; bounded in time. */
  readonly provideUser: (userId: UserId) => Promise<boolean>;
  /** The same of an alias of ours. */
  provideAlias(alias: RoomAlias): Promise<boolean>;
  /** Whether a service could be asked for this alias. */
  mayProvideAlias(alias: RoomAlias): boolean;
  /** Asks a service whether it hears us; whatever waits for it is tried again at once. Never throws. */
  ping(service: KnownService, txnId: string | undefined): Promise<PingOutcome>;
}
