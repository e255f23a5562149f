/** Hearing of an abort for as long as something lasts. */
import { setMaxListeners } from 'node:events';

/**
 * Calls `listener` when the signal aborts, unless the function returned was called before. One activity, or one that closes, has many
 * things under way on one signal: Node warns of a leak at eleven listeners, and there is none.
 */
export function onAbort(signal: AbortSignal, listener: () => void): () => void {
  setMaxListeners(0, signal);
  signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
}
