/** The workflow bundle's entry point: what a worker can run. */
export { finishLostJoins } from './finish-joins.ts';
export { maintain } from './maintain.ts';
export { resyncRoom } from './resync-room.ts';
export { sweepOverdueResyncs } from './sweep.ts';
