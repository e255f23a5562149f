/** What the process of client-listener.ts says of itself; no code, for whoever imports that file runs it. */

/** What the bench is told first, and then whenever it asks by a message. */
export interface ListenerReport {
  readonly url: string;
  readonly accessToken: string;
  /** Requests that are held. */
  readonly waiting: number;
  readonly heapBytes: number;
  /** Of the process, since it began. */
  readonly cpuSeconds: number;
}
