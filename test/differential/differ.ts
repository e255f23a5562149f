/** Puts cases to us and to the oracle, and makes of every disagreement the smallest case that still disagrees. */
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type Oracle } from './oracle.ts';
import { type Random } from './random.ts';

/** What has to agree, as text; `undecided`: no case after all, such as an event that is malformed in its room version. */
export type Answer = { readonly answer: string; readonly kind: string } | { readonly undecided: string };

/** One kind of question. A request is a line of JSON for oracle.py, so that a case can be printed and replayed. */
export interface Suite<Request> {
  readonly name: string;
  /** Some cases; as many as are cheap to make together. */
  readonly cases: (random: Random) => readonly Request[];
  /** Our answer to the line, read as its text stands; `kind` is what the tally counts. */
  readonly ours: (line: string) => Answer;
  readonly theirs: (answer: JsonObject, request: Request) => Answer;
  /** Cases with a part less. */
  readonly smaller: (request: Request) => Iterable<Request>;
}

export interface Disagreement {
  readonly suite: string;
  readonly request: unknown;
  readonly ours: string;
  readonly theirs: JsonObject;
}

export interface Comparison {
  compared: number;
  undecided: number;
  readonly disagreements: Disagreement[];
  /** How often each kind of answer came up, to see that the cases are worth their time. */
  readonly tally: Map<string, number>;
}

/** A run stops here: more disagreements would say the same. */
const DISAGREEMENTS_MAX = 5;
/** How many attempts at making one disagreement smaller. */
const SHRINKING_STEPS_MAX = 2_000;

/** Compares at least `cases` cases of a suite; the random source decides them all. */
export async function differ<Request>(
  suite: Suite<Request>,
  random: Random,
  oracle: Oracle,
  cases: number,
): Promise<Comparison> {
  const comparison: Comparison = { compared: 0, undecided: 0, disagreements: [], tally: new Map() };
  while (comparison.compared < cases && comparison.disagreements.length < DISAGREEMENTS_MAX) {
    await compareSome(suite, suite.cases(random), oracle, comparison);
  }
  return comparison;
}

async function compareSome<Request>(
  suite: Suite<Request>,
  requests: readonly Request[],
  oracle: Oracle,
  comparison: Comparison,
): Promise<void> {
  const lines = requests.map((request) => JSON.stringify(request));
  const answers = await oracle.ask(lines);
  for (const [index, request] of requests.entries()) {
    const ours = suite.ours(lines[index]!);
    const theirs = suite.theirs(answers[index]!, request);
    if ('undecided' in ours || 'undecided' in theirs) {
      comparison.undecided++;
      continue;
    }
    comparison.compared++;
    comparison.tally.set(ours.kind, (comparison.tally.get(ours.kind) ?? 0) + 1);
    if (ours.answer !== theirs.answer) comparison.disagreements.push(await smallest(suite, request, oracle));
  }
}

async function smallest<Request>(suite: Suite<Request>, request: Request, oracle: Oracle): Promise<Disagreement> {
  let steps = 0;
  const disagreement = async (candidate: Request): Promise<Disagreement | undefined> => {
    const line = JSON.stringify(candidate);
    const ours = suite.ours(line);
    const [answer] = await oracle.ask([line]);
    const theirs = suite.theirs(answer!, candidate);
    if ('undecided' in ours || 'undecided' in theirs || ours.answer === theirs.answer) return undefined;
    return { suite: suite.name, request: candidate, ours: ours.answer, theirs: answer! };
  };
  let smallestYet = request;
  let found = (await disagreement(request))!;
  for (let isShrinking = true; isShrinking;) {
    isShrinking = false;
    for (const candidate of suite.smaller(smallestYet)) {
      if (++steps > SHRINKING_STEPS_MAX) break;
      const still = await disagreement(candidate);
      if (still === undefined) continue;
      found = still;
      smallestYet = candidate;
      isShrinking = true;
      break;
    }
  }
  return found;
}
