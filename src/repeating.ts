/** Work that a process does again and again, once at a time: loops that look for what others have left. */

export interface Repeating {
  /** Does it now, unless it is under way; resolves when it is done. Never rejects. */
  run(): Promise<void>;
  /** `close` was called: what it rests on may end at any time. */
  isClosing(): boolean;
  /** Ends after what is under way. */
  close(): Promise<void>;
}

/** Every `everyMs` milliseconds. `onFailed` is told what the work throws; it is done again all the same. */
export function startRepeating(
  work: (isClosing: () => boolean) => Promise<void>,
  { everyMs, onFailed }: { readonly everyMs: number; readonly onFailed: (error: unknown) => void },
): Repeating {
  let isClosing = false;
  let running: Promise<void> | undefined;
  const run = (): Promise<void> =>
    (running ??= work(() => isClosing)
      .catch(onFailed)
      .finally(() => (running = undefined)));
  const timer = setInterval(() => void run(), everyMs);
  return {
    run,
    isClosing: () => isClosing,
    close: async () => {
      isClosing = true;
      clearInterval(timer);
      await running;
    },
  };
}
