/**
 * How a workflow reads what comes in: as ever, but that what cannot be read is told as such. People send signals by hand, and a
 * signal whose payload is no JSON would otherwise fail the task of its workflow again and again.
 */
import { type PayloadConverter, defaultPayloadConverter } from '@temporalio/common';

/** Stands for a payload that cannot be read. No command has such a body. */
const UNREADABLE = 'a payload that cannot be read: send JSON';

export const payloadConverter: PayloadConverter = {
  toPayload: (value, context) => defaultPayloadConverter.toPayload(value, context),
  // Whatever type is wanted of it.
  fromPayload: (...given: Parameters<PayloadConverter['fromPayload']>): never => {
    try {
      return defaultPayloadConverter.fromPayload(...given) as never;
    } catch {
      return UNREADABLE as never;
    }
  },
};
