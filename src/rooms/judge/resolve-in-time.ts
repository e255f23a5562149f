/**
 * Resolution for which a room's turn waits: not for long. Two states of a big room that have little in common, which whoever cites the
 * event that the room began with can have made, take a minute. What is not had in time goes on beside the turn, one such resolution of a
 * process at a time, and is at hand when it is asked for again.
 */
import { onAbort } from '../../on-abort.ts';
import { resolutionName } from '../../store/snapshots/resolution-cache.ts';
import { BRIEF_LIMITS, type Resolve, distinctOf, knownOutcome, resolveDistinct } from './resolve.ts';
import { Stopped } from './stored-conflicts.ts';

/** It goes on, or another one does: to be asked for again. Nothing is concluded from it. */
export class ResolutionTakesLong extends Error {
  override readonly name = 'ResolutionTakesLong';
}

/** Of states that are resolved already the outcome; `resolve` is given the others, each once. */
function unlessKnown(resolve: Resolve): Resolve {
  /** @throws ResolutionTooLarge; ResolutionTakesLong */
  return async (sql, roomId, rules, snapshots) => {
    const distinct = distinctOf(snapshots);
    return (await knownOutcome(sql, roomId, distinct)) ?? resolve(sql, roomId, rules, distinct);
  };
}

/** As `resolveSnapshots`, within about `msMax` milliseconds. Not for a transaction, which what goes on would outlive. */
export function resolveWithin(msMax: number) {
  return unlessKnown(async (sql, roomId, rules, distinct) => {
    const name = resolutionName(roomId, distinct);
    const { longResolution } = sql.caches;
    if (longResolution.name === name) throw new ResolutionTakesLong('its states are still being resolved');

    let isStopped = false;
    const resolving = resolveDistinct(sql, roomId, rules, distinct, () => isStopped);
    let forget: () => void = () => undefined;
    const late = new Promise<undefined>((resolve) => {
      forget = onAbort(AbortSignal.timeout(msMax), () => resolve(undefined));
    });
    try {
      const resolved = await Promise.race([resolving, late]);
      if (resolved !== undefined) return resolved;
    } finally {
      forget();
    }
    isStopped = longResolution.name !== null;
    if (!isStopped) longResolution.name = name;
    // Whoever asks again is told how it ends.
    void resolving
      .catch(() => undefined)
      .finally(() => {
        if (!isStopped) longResolution.name = null;
      });
    throw new ResolutionTakesLong(
      isStopped ? 'the states of another event are being resolved' : 'its states take long to resolve',
    );
  });
}

/**
 * As `resolveSnapshots`, and given up where the states differ in much, or about `msMax` milliseconds after the first that it resolves: for
 * a transaction, in which nothing may go on beside. Whoever is told that it takes long lets the lock go, and resolves them without it.
 */
export function resolveBriefly(msMax: number) {
  let late: AbortSignal | undefined;
  return unlessKnown(async (sql, roomId, rules, distinct) => {
    const deadline = (late ??= AbortSignal.timeout(msMax));
    try {
      if (deadline.aborted) throw new Stopped('the time is over');
      return await resolveDistinct(sql, roomId, rules, distinct, () => deadline.aborted, BRIEF_LIMITS);
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
      throw new ResolutionTakesLong('its states take long to resolve');
    }
  });
}
