/**
 * The servers that a resync may ask: a choice from all that are believed to be in the room, small enough to travel. Best
 * first: who has answered us, whom the user named, who speaks in the room, and last what strangers have said. Each kind has
 * places of its own, so that no list of a stranger keeps a better server out.
 */
import { type ServerName } from '../matrix/identifiers.ts';

/** Candidates kept in the state. */
export const CANDIDATES_MAX = 60;
/**
 * And characters of their names together, 40 a name: each may stand in the state three times (candidate, tried, asked
 * for patience), and the whole state stays below the 16 KiB that a workflow carries.
 */
const CANDIDATE_NAMES_CHARS_MAX = 2_400;
/** Places, and characters, that each better kind may take; hints have what is left. */
const ANSWERED_MAX = 10;
const VIA_MAX = 10;
const SPOKE_MAX = 20;
const KIND_CHARS_MAX: Readonly<Record<keyof CandidateRanks, number>> = { answered: 800, via: 500, spoke: 600 };

/** How many of the candidates, from the front, are of each kind; the rest are hints. */
export interface CandidateRanks {
  readonly answered: number;
  readonly via: number;
  readonly spoke: number;
}

export interface Candidates {
  readonly candidates: readonly ServerName[];
  readonly ranks: CandidateRanks;
}

export const noCandidates: Candidates = { candidates: [], ranks: { answered: 0, via: 0, spoke: 0 } };

/** New names of each kind, best first; they go before those known of their kind. */
export interface LearnedServers {
  readonly answered?: readonly ServerName[];
  readonly via?: readonly ServerName[];
  readonly spoke?: readonly ServerName[];
  readonly hints?: readonly ServerName[];
  /** Hints known so far are let go for the new ones. */
  readonly replaceHints?: boolean;
}

/**
 * The choice with more names to choose from. Whoever answered newly is first. A server that speaks when all places for those
 * are taken is not taken up: strangers cannot wake a room as often as they can make up names.
 */
export function chooseCandidates(known: Candidates, learned: LearnedServers): Candidates {
  const { answered, via, spoke } = known.ranks;
  const names = known.candidates;
  const taken = new Set<ServerName>();
  const take = (from: readonly ServerName[], countMax: number, charsMax: number): ServerName[] => {
    let chars = charsMax;
    const some: ServerName[] = [];
    for (const name of from) {
      if (some.length >= countMax) break;
      if (taken.has(name) || name.length > chars) continue;
      taken.add(name);
      some.push(name);
      chars -= name.length;
    }
    return some;
  };
  const answering = take(
    [...(learned.answered ?? []), ...names.slice(0, answered)],
    ANSWERED_MAX,
    KIND_CHARS_MAX.answered,
  );
  const named = take([...headOf(learned.via), ...names.slice(answered, answered + via)], VIA_MAX, KIND_CHARS_MAX.via);
  const speaking = take(
    [...names.slice(answered + via, answered + via + spoke), ...headOf(learned.spoke)],
    SPOKE_MAX,
    KIND_CHARS_MAX.spoke,
  );
  const better = [...answering, ...named, ...speaking];
  const chars = better.reduce((sum, name) => sum + name.length, 0);
  const before = learned.replaceHints === true ? [] : names.slice(answered + via + spoke);
  const hints = take(
    // Whom better servers have pushed out of their places may still be asked.
    [...headOf(learned.hints), ...before, ...names.slice(0, answered + via)],
    CANDIDATES_MAX - better.length,
    CANDIDATE_NAMES_CHARS_MAX - chars,
  );
  return {
    candidates: [...better, ...hints],
    ranks: { answered: answering.length, via: named.length, spoke: speaking.length },
  };
}

/** Only the head of a list counts, so that an event trimmed for transport folds to the same state. */
export function headOf(names: readonly ServerName[] = []): readonly ServerName[] {
  return names.slice(0, CANDIDATES_MAX);
}

/** Whether a server that speaks would become a better candidate than it is. */
export function hasPlaceForSpeaker({ candidates, ranks }: Candidates, server: ServerName): boolean {
  const { answered, via, spoke } = ranks;
  return spoke < SPOKE_MAX && !candidates.slice(0, answered + via + spoke).includes(server);
}
