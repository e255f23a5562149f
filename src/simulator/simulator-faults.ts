/**
 * Faults of simulated servers, as data: what can be asked for from another process. A fault of a body names its point as
 * a share, since whoever asks does not know how long the body will be; a fault of events names how many.
 */
import { type Fault } from './faults.ts';

/** A point of a body: after so many bytes, or after a share of it between 0 and 1. */
export type BodyPoint = { readonly bytes: number } | { readonly share: number };

/** How many of an answer's events: a number, or a share between 0 and 1, rounded up. */
export type EventAmount = { readonly count: number } | { readonly share: number };

/** What becomes of some events of an answer. Answers without events stay as they are; create events are spared. */
export type EventFault =
  /** Content altered after hashing: the event keeps its id and its signatures, its content hash is wrong. */
  | { readonly kind: 'wrong-hash'; readonly events: EventAmount }
  /** A signature altered: the event keeps its id. */
  | { readonly kind: 'wrong-signature'; readonly events: EventAmount }
  /** Left out. */
  | { readonly kind: 'missing-events'; readonly events: EventAmount }
  /** The same events in a longer text than need be, as servers may write them: no fault of theirs, and borne by who is right. */
  | { readonly kind: 'long-text'; readonly text: LongText; readonly events: EventAmount };

/** All but ASCII as `\uXXXX`; indented by eight; with what `unsigned` may hold, the content that the event replaced, of 40,000 bytes. */
export type LongText = 'escaped' | 'indented' | 'unsigned';

export type SimulatorFault =
  /** Waits before the answer. */
  | { readonly kind: 'latency'; readonly ms: number }
  /** Sends the body at this rate; a few bytes a second is a drip. */
  | { readonly kind: 'bandwidth'; readonly bytesPerSecond: number }
  /** Answers this instead; the server does nothing for the request. */
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly errcode: string;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** Cuts the connection at that point; the client sees an error. */
  | { readonly kind: 'hang-up'; readonly at: BodyPoint }
  /** Ends the body at that point as if it were whole; the client sees a success. */
  | { readonly kind: 'truncate'; readonly at: BodyPoint }
  /** Sends nothing after that point until the fault is released. */
  | { readonly kind: 'hold'; readonly at: BodyPoint }
  /** Sends random bytes from that point on, as many as the body has left. */
  | { readonly kind: 'rubbish'; readonly at: BodyPoint }
  /** Replaces the body by a prefix and then a filler repeated until the client goes away. */
  | { readonly kind: 'endless'; readonly prefix: string; readonly filler: string }
  /** The server cuts the connections that it has, and new ones as soon as they are made. */
  | { readonly kind: 'down' }
  | EventFault;

/** Whether an answer under this fault may have another length than without. */
export function changesLength({ kind }: SimulatorFault): boolean {
  return kind === 'truncate' || kind === 'endless';
}

/** Whether a fault alters single events of an answer, and not its body as bytes. */
export function isEventFault(fault: SimulatorFault): fault is EventFault {
  const { kind } = fault;
  return kind === 'wrong-hash' || kind === 'wrong-signature' || kind === 'missing-events' || kind === 'long-text';
}

/** The fault of a body of so many bytes; `undefined` for faults that strike elsewhere. */
export function bodyFaultOf(fault: SimulatorFault, bodyBytes: number): Fault | undefined {
  const bytesAt = (at: BodyPoint): number => ('bytes' in at ? at.bytes : Math.floor(at.share * bodyBytes));
  switch (fault.kind) {
    case 'bandwidth':
    case 'endless':
      return fault;
    case 'hang-up':
    case 'truncate':
    case 'hold':
      return { kind: fault.kind, afterBytes: bytesAt(fault.at) };
    case 'rubbish': {
      const afterBytes = bytesAt(fault.at);
      return { kind: 'rubbish', afterBytes, bytes: Math.max(0, bodyBytes - afterBytes) };
    }
    case 'latency':
    case 'status':
    case 'down':
    case 'wrong-hash':
    case 'wrong-signature':
    case 'missing-events':
    case 'long-text':
      return undefined;
  }
}
