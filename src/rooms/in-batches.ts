/** Looks that many ask for in the same moment, made as one. */

/** Keys of one look, where nothing else is said. */
const KEYS_MAX = 2_000;

interface Asked<Key, Value> {
  readonly key: Key;
  readonly askers: { readonly resolve: (value: Value) => void; readonly reject: (error: unknown) => void }[];
}

/**
 * One look after the other, each for all who ask until it begins: so an answer is of a look that began after it was asked for, and
 * however many ask, one connection is in use.
 *
 * @param look gives a value for each key, in their order; what it throws is thrown to all of them
 * @param nameOf keys of the same name share a value
 * @param keysMax of one look: who asks for more has several
 */
export function inBatches<Key, Value>(
  look: (keys: readonly Key[]) => Promise<readonly Value[]>,
  nameOf: (key: Key) => string,
  keysMax = KEYS_MAX,
): (key: Key) => Promise<Value> {
  const waiting = new Map<string, Asked<Key, Value>>();
  let isLooking = false;

  const lookFor = async (batch: readonly Asked<Key, Value>[]): Promise<void> => {
    try {
      const values = await look(batch.map(({ key }) => key));
      for (const [i, { askers }] of batch.entries()) for (const { resolve } of askers) resolve(values[i] as Value);
    } catch (error) {
      for (const { askers } of batch) for (const { reject } of askers) reject(error);
    }
  };
  const lookOn = async (): Promise<void> => {
    isLooking = true;
    // Whoever asks in this turn of the event loop is in.
    await new Promise((resolve) => setImmediate(resolve));
    while (waiting.size > 0) {
      const batch = [...waiting].slice(0, keysMax);
      for (const [name] of batch) waiting.delete(name);
      await lookFor(batch.map(([, asked]) => asked));
    }
    isLooking = false;
  };

  return (key) =>
    new Promise((resolve, reject) => {
      const name = nameOf(key);
      const asked = waiting.get(name) ?? { key, askers: [] };
      asked.askers.push({ resolve, reject });
      waiting.set(name, asked);
      if (!isLooking) void lookOn();
    });
}
