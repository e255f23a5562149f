/** The workflow bundle's entry point: what a worker can run. */
export { resyncRoom } from './resync-room.ts';
export { sweepOverdueResyncs } from './sweep.ts';
