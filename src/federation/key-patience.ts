/**
 * When a server may be asked for a key again. Without it a stranger who signs with invented key ids, or in the name of
 * a dead server, makes us send one request per id. In memory: a restart asks afresh.
 */
import { LRUCache } from 'lru-cache';
import { type Clock } from '../clock.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type KeyRequest } from '../verification/contract.ts';

/** Servers remembered; one takes some hundred bytes. */
const SERVERS_MAX = 20_000;
/** After success: a key that was just fetched is not fetched again, and few others of its server are. */
const PAUSE_MS = 60_000;
const KEYS_IN_A_PAUSE_MAX = 8;
/** After failures: shorter than a resync's first pause, doubling, and never so long that a recovered server stays unheard. */
const FIRST_FAILURE_PAUSE_MS = 20_000;
const FAILURE_PAUSE_MS_MAX = 900_000;

interface Memory {
  readonly failures: number;
  /** Milliseconds since the Unix epoch. */
  readonly until: number;
  /** Asked for since the pause began. */
  readonly keyIds: ReadonlySet<string>;
}

export interface KeyPatience {
  mayAsk(request: KeyRequest): boolean;
  /** Takes down how a request for a key ended. */
  note(request: KeyRequest, isSatisfied: boolean): void;
}

/** The memory of which servers could not give a key lately; it forgets the longest unused of too many. */
export function createKeyPatience(clock: Clock): KeyPatience {
  const memories = new LRUCache<ServerName, Memory>({ max: SERVERS_MAX });
  return {
    mayAsk({ serverName, keyId }) {
      const memory = memories.get(serverName);
      if (memory === undefined || memory.until <= clock.now()) return true;
      return !memory.keyIds.has(keyId) && memory.keyIds.size < KEYS_IN_A_PAUSE_MAX;
    },
    note({ serverName, keyId }, isSatisfied) {
      const now = clock.now();
      const memory = memories.get(serverName);
      const isPausing = memory !== undefined && memory.until > now;
      const failures = isSatisfied ? 0 : (memory?.failures ?? 0) + 1;
      const failurePauseMs = Math.min(FIRST_FAILURE_PAUSE_MS * 2 ** Math.min(failures - 1, 20), FAILURE_PAUSE_MS_MAX);
      memories.set(serverName, {
        failures,
        until: now + (isSatisfied ? PAUSE_MS : failurePauseMs),
        keyIds: new Set([...(isPausing ? memory.keyIds : []), keyId]),
      });
    },
  };
}
