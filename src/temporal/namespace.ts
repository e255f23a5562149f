/** The namespace that everything of ours is in: made where we may, and missed with a clear error. */
import { type Connection, ServiceError, isGrpcServiceError } from '@temporalio/client';

/** How long closed runs are kept there, for people who look into the UI; the journal keeps the story for ever. */
const RETENTION_DAYS = 3;
const DAY_SECONDS = 86_400;

/** gRPC status codes. Source: https://grpc.io/docs/guides/status-codes/ */
const NOT_FOUND = 5;
const ALREADY_EXISTS = 6;
const PERMISSION_DENIED = 7;
const UNIMPLEMENTED = 12;
const UNAUTHENTICATED = 16;

/** It is not on that server. The message says how to get it. */
export class NamespaceError extends Error {
  override readonly name = 'NamespaceError';
}

/** Whether the server does not let us do what operators do there, as managed services do not. */
export function isRefused(error: unknown): boolean {
  const code = codeOf(error);
  return code === PERMISSION_DENIED || code === UNIMPLEMENTED;
}

/** Whether what was asked about is not there. */
export function isNotFound(error: unknown): boolean {
  return codeOf(error) === NOT_FOUND;
}

/** Whether the server does not know who we are: no API key, or one that has ended. */
export function isUnauthenticated(error: unknown): boolean {
  return codeOf(error) === UNAUTHENTICATED;
}

/** Throws `NamespaceError` when the server has no such namespace. Where it does not tell, what is done there will show it. */
export async function assertNamespace(connection: Connection, namespace: string): Promise<void> {
  if (await hasNamespace(connection, namespace)) return;
  throw new NamespaceError(`there is no namespace ${namespace}; "rejoinder migrate" makes it, or ${byHand(namespace)}`);
}

/** Makes the namespace where it is missing; gives whether it did. Throws `NamespaceError` when it is missing and we may not make it. */
export async function ensureNamespace(connection: Connection, namespace: string): Promise<boolean> {
  if (await hasNamespace(connection, namespace)) return false;
  try {
    await connection.workflowService.registerNamespace({
      namespace,
      description: 'Rejoinder: a workflow for each Matrix room that is made whole',
      workflowExecutionRetentionPeriod: { seconds: (RETENTION_DAYS * DAY_SECONDS) as never },
    });
  } catch (error) {
    if (codeOf(error) === ALREADY_EXISTS) return false;
    if (!isRefused(error)) throw error;
    const why = error instanceof Error ? error.message : String(error);
    const text = `there is no namespace ${namespace}, and the server does not let us make it (${why}): ${byHand(namespace)}`;
    throw new NamespaceError(text, { cause: error });
  }
  return true;
}

function byHand(namespace: string): string {
  return `make it by hand, as with: temporal operator namespace create --retention ${RETENTION_DAYS}d --namespace ${namespace}`;
}

async function hasNamespace(connection: Connection, namespace: string): Promise<boolean> {
  try {
    await connection.workflowService.describeNamespace({ namespace });
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    if (isRefused(error)) return true;
    throw error;
  }
}

/** Of the call that failed; the SDK wraps some. */
function codeOf(error: unknown): number | undefined {
  const call = error instanceof ServiceError ? error.cause : error;
  return isGrpcServiceError(call) ? call.code : undefined;
}
