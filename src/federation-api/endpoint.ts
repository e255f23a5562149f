/** What the endpoints for signed requests are given besides the request. */
import { type Endpoint } from '../http/endpoint.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type AuthenticatedRequest } from './authenticated.ts';
import { type FederationServerPorts } from './ports.ts';

export type TransactionHandler = (txnId: string, request: AuthenticatedRequest) => Promise<JsonObject>;

export interface SignedContext {
  readonly ports: FederationServerPorts;
  readonly takeTransaction: TransactionHandler;
  readonly serverName: ServerName;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
}

export type SignedEndpoint = Endpoint<AuthenticatedRequest, SignedContext>;
