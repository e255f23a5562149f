/** What the endpoints for signed requests are given besides the request. */
import { type Endpoint } from '../http/endpoint.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type AuthenticatedRequest } from './authenticated.ts';
import { type FederationServerPorts } from './ports.ts';

export type TransactionHandler = (txnId: string, request: AuthenticatedRequest) => Promise<JsonObject>;

export interface SignedContext {
  readonly ports: FederationServerPorts;
  readonly takeTransaction: TransactionHandler;
}

export type SignedEndpoint = Endpoint<AuthenticatedRequest, SignedContext>;
