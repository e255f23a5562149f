/**
 * The one translation of errors into what Temporal retries. What residents do wrong never gets here: it is journalled.
 * What does is trouble of our own (database, threads, a bug), which is retried for ever: an operator or a new version
 * mends it, and the workflow goes on by itself.
 */
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';

export function asFailure(error: unknown): Error {
  if (error instanceof ApplicationFailure || error instanceof CancelledFailure) return error;
  if (!(error instanceof Error)) return ApplicationFailure.retryable(String(error));
  return ApplicationFailure.create({ message: error.message, type: error.name, cause: error });
}
