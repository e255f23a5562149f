/**
 * In what order the candidates of a resync are asked, and why each is asked where it is. Candidates are kept best kind first
 * (candidates.ts): who answered, the newest first, whom the user named, who speaks, and what strangers say. Here it is weighed what
 * their answers were like: of those who have answered, the newest comes first and then the quick; who says that we are not in the
 * room comes last of all, and is asked still, since it has the state of before our join. Before all of them come those that an
 * operator has pinned, the others being asked still; whom he has banned is not among them.
 */
import { type ServerName } from '../matrix/identifiers.ts';
import { type ChosenBecause } from './attempts.ts';
import { notBanned } from './control.ts';
import { type ResyncEvent } from './events.ts';
import { type ResyncState } from './state.ts';

/** Servers in `departed`, and characters of their names: of more than that the oldest have their old places again. */
const DEPARTED_MAX = 20;
const DEPARTED_CHARS_MAX = 600;

/** Who is asked in the round, in its order, which begins where the one before was cut off. */
export function inOrder(state: ResyncState): readonly ServerName[] {
  const { askingOnly, control } = state;
  return askingOnly === null ? mayBeAsked(state) : notBanned(control, askingOnly.residents);
}

/** All who may be asked, in the order of a round. */
export function mayBeAsked(state: ResyncState): readonly ServerName[] {
  const { control } = state;
  return notBanned(control, [...new Set([...control.pinned, ...candidatesInOrder(state)])]);
}

function candidatesInOrder(state: ResyncState): readonly ServerName[] {
  const { candidates, ranks, departed, startAt } = state;
  const [newest, ...others] = candidates.slice(0, ranks.answered);
  const quickFirst = others.sort((one, other) => latencyOf(state, one) - latencyOf(state, other));
  const all = [...(newest === undefined ? [] : [newest]), ...quickFirst, ...candidates.slice(ranks.answered)];
  const isGone = (name: ServerName): boolean => departed.includes(name);
  const ordered = [...all.filter((name) => !isGone(name)), ...all.filter(isGone)];
  const first = startAt === 0 ? 0 : ordered.indexOf(candidates[startAt] ?? ('' as ServerName));
  return first <= 0 ? ordered : [...ordered.slice(first), ...ordered.slice(0, first)];
}

/** Why a candidate has its place. */
export function reasonFor(state: ResyncState, name: ServerName): ChosenBecause {
  const { candidates, ranks, departed, joinedVia, control } = state;
  const { answered, via, spoke } = ranks;
  if (control.pinned.includes(name)) return 'pinned';
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
  pinned: 'which an operator has pinned',
  'let-us-in': 'which let us in',
  'has-answered': 'which has answered before',
  'named-by-user': 'which the user named',
  spoke: 'which speaks in the room',
  'said-to-be-in': 'which is said to be in the room',
  departed: 'which has left, or says that we are not in the room, and may know the state of before our join',
};

/** Unknown ones are the slowest. */
function latencyOf({ latencies }: ResyncState, name: ServerName): number {
  return Object.hasOwn(latencies, name) ? (latencies[name] ?? Number.MAX_VALUE) : Number.MAX_VALUE;
}

type Of<Type extends ResyncEvent['type']> = Extract<ResyncEvent, { readonly type: Type }>;

/** A server that says we are not in the room is asked last; one that says anything else of it has its place. */
export function departures(
  state: ResyncState,
  { resident, outcome }: Of<'StateFetchFailed'>,
): Pick<ResyncState, 'departed'> {
  if (outcome === 'not-in-room') return { departed: departedAlso(state, [resident]) };
  const isSilent = outcome === 'transient' || outcome === 'ours' || outcome === undefined;
  return { departed: isSilent ? state.departed : state.departed.filter((name) => name !== resident) };
}

/** Those that have departed, with more of them, which are the newest. */
export function departedAlso(
  { departed, candidates }: Pick<ResyncState, 'departed' | 'candidates'>,
  more: readonly ServerName[],
): readonly ServerName[] {
  if (more.length === 0) return departed;
  const others = departed.filter((name) => !more.includes(name) && candidates.includes(name));
  const some: ServerName[] = [];
  let chars = DEPARTED_CHARS_MAX;
  for (const name of [...more, ...others.reverse()]) {
    chars -= name.length;
    if (chars < 0 || some.length >= DEPARTED_MAX) break;
    some.push(name);
  }
  return some.reverse();
}

/** What is known of how quickly those answer who have answered; a journal from before it was kept says nothing of it. */
export function latenciesOf(
  { latencies, candidates, ranks }: Pick<ResyncState, 'latencies' | 'candidates' | 'ranks'>,
  { resident, latencyMs }: Of<'StateFetched' | 'StateFetchFailed'>,
): ResyncState['latencies'] {
  if (latencyMs === undefined) return latencies;
  const answered = candidates.slice(0, ranks.answered);
  const known = { ...latencies, [resident]: latencyMs };
  return Object.fromEntries(Object.entries(known).filter(([name]) => answered.includes(name as ServerName)));
}
