/** What application services are to the edges, in shapes; no code. */
import { type EventId, type RoomAlias, type RoomId, type UserId } from '../matrix/identifiers.ts';

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

/** Who decided something about a service, and why, for the log. */
export interface ServiceDecision {
  readonly by: string;
  readonly reason?: string | undefined;
}

/** How a service stands, for operators. Times are milliseconds since the Unix epoch. */
export interface ServiceStatus {
  readonly id: string;
  readonly url: string | null;
  /** `not-told`: it has no url. `unregistered`: it was told once, and is not in the configuration. */
  readonly state: 'up-to-date' | 'telling' | 'failing' | 'not-told' | 'unregistered';
  /** It has been told up to here; `null`: it never was told anything. */
  readonly position: number | null;
  /** Positions that it has not been told of, and of which it is not known that they do not concern it. */
  readonly lag: number;
  /** When the first of them was made; `null`: there is none. */
  readonly oldestAt: number | null;
  /** Transactions that it did not take, in a row, since when, and how the last one failed. */
  readonly failures: number;
  readonly failedSince: number | null;
  readonly lastFailure: string | null;
  /** When it is tried again; `null`: it has no pause. */
  readonly retryAt: number | null;
  /** What waits to be taken, and keeps the rest waiting. */
  readonly transaction: {
    readonly txnId: string;
    readonly events: number;
    readonly ephemeral: number;
    readonly madeAt: number;
  } | null;
}

/** An event by its names. */
export interface SkippedEvent {
  readonly eventId: EventId;
  readonly roomId: RoomId;
}

/** `other`: that transaction does not wait, but this one, or none. */
export type SkipOutcome =
  | { readonly outcome: 'skipped'; readonly events: readonly SkippedEvent[] }
  | { readonly outcome: 'unknown' }
  | { readonly outcome: 'other'; readonly waiting: string | null };

/** What operators do about services. */
export interface ServiceSteering {
  /** As they are registered, and then those that are not any more. */
  list(): Promise<readonly ServiceStatus[]>;
  /** What waits is sent at once; `false`: nothing is known of the service. */
  retry(serviceId: string, decision: ServiceDecision): Promise<boolean>;
  /** The service is never told what the transaction holds. */
  skip(serviceId: string, txnId: string, decision: ServiceDecision): Promise<SkipOutcome>;
  /** It is told nothing of what happened until now; `undefined`: nothing is known of it. */
  skipAll(
    serviceId: string,
    decision: ServiceDecision,
  ): Promise<{ readonly after: number; readonly upTo: number } | undefined>;
}
