/** What the endpoints for clients are given besides the request. */
import { type Accounts, type SecretRegistration } from '../accounts/contract.ts';
import { type AppServices } from '../app-services/contract.ts';
import { type Clock } from '../clock.ts';
import { type Devices } from '../devices/contract.ts';
import { type Passing } from '../edus/contract.ts';
import { type Endpoint } from '../http/endpoint.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type ClientActs, type ClientReads } from '../rooms/client-contract.ts';
import { type Directory } from '../rooms/directory-contract.ts';
import { type Purges } from '../rooms/purge/contract.ts';
import { type Sync } from '../sync/contract.ts';
import { type ClientRequest, type UserRequest } from './client-request.ts';
import { type RateLimiters } from './rate-limits.ts';
import { type SharedAnswers } from './shared-answers.ts';

export interface ClientContext {
  readonly serverName: ServerName;
  readonly accounts: Accounts;
  readonly appServices: AppServices;
  readonly devices: Devices;
  readonly passing: Passing;
  readonly reads: ClientReads;
  readonly acts: ClientActs;
  readonly directory: Directory;
  /** For administrators. */
  readonly purges: Pick<Purges, 'request' | 'wait' | 'status' | 'ofRoom'>;
  readonly answers: SharedAnswers;
  readonly clock: Clock;
  readonly sync: Sync;
  readonly limiters: RateLimiters;
  /** Where clients reach this server; `null`: nobody has said. */
  readonly publicBaseUrl: string | null;
  /** Whether strangers may register. */
  readonly isRegistrationOpen: boolean;
  /** `null`: no secret is configured. */
  readonly secretRegistration: SecretRegistration | null;
  readonly defaultRoomVersion: string;
  /** How long a request may wait for a room to become whole, milliseconds. */
  readonly stateWaitMaxMs: number;
}

/** For anybody. */
export type OpenEndpoint = Endpoint<ClientRequest, ClientContext>;
/** For users. */
export type UserEndpoint = Endpoint<UserRequest, ClientContext>;
