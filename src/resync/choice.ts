/**
 * In what order the candidates of a resync are asked, and why each is asked where it is. Candidates are kept best kind first
 * (candidates.ts): who answered, the newest first, whom the user named, who speaks, and what strangers say. Here it is weighed what
 * their answers were like: of those who have answered, the newest comes first and then the quick; who says that we are not in the
 * room comes last of all, and is asked still, since it has the state of before our join.
 */
import { type ServerName } from '../matrix/identifiers.ts';
import { type ChosenBecause } from './events.ts';
import { type ResyncState } from './state.ts';

/** The candidates in the order of a round, which begins where the one before was cut off. */
export function inOrder(state: ResyncState): readonly ServerName[] {
  const { candidates, ranks, departed, startAt, askingOnly } = state;
  if (askingOnly !== null) return askingOnly.residents;
  const [newest, ...others] = candidates.slice(0, ranks.answered);
  const quickFirst = others.sort((one, other) => latencyOf(state, one) - latencyOf(state, other));
  const all = [...(newest === undefined ? [] : [newest]), ...quickFirst, ...candidates.slice(ranks.answered)];
  const isGone = (name: ServerName): boolean => departed.includes(name);
  const ordered = [...all.filter((name) => !isGone(name)), ...all.filter(isGone)];
  const first = startAt === 0 ? 0 : ordered.indexOf(candidates[startAt] ?? ('' as ServerName));
  return first <= 0 ? ordered : [...ordered.slice(first), ...ordered.slice(0, first)];
}

/** Why a candidate has its place. */
export function reasonFor({ candidates, ranks, departed, joinedVia }: ResyncState, name: ServerName): ChosenBecause {
  const { answered, via, spoke } = ranks;
  if (departed.includes(name)) return 'departed';
  if (name === joinedVia) return 'let-us-in';
  const place = candidates.indexOf(name);
  if (place < 0) return 'said-to-be-in';
  if (place < answered) return 'has-answered';
  if (place < answered + via) return 'named-by-user';
  return place < answered + via + spoke ? 'spoke' : 'said-to-be-in';
}

/** The reason in words, to follow the server's name. */
export const REASON_IN_WORDS: Readonly<Record<ChosenBecause, string>> = {
  'let-us-in': 'which let us in',
  'has-answered': 'which has answered before',
  'named-by-user': 'which the user named',
  spoke: 'which speaks in the room',
  'said-to-be-in': 'which is said to be in the room',
  departed: 'which says that we are not in the room, and may know the state of before our join',
};

/** Unknown ones are the slowest. */
function latencyOf({ latencies }: ResyncState, name: ServerName): number {
  return Object.hasOwn(latencies, name) ? (latencies[name] ?? Number.MAX_VALUE) : Number.MAX_VALUE;
}
