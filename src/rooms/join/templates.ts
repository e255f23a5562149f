/**
 * make_join at one resident after the other, and at the next one beside it when it takes long: a resident that is silent costs a join some
 * seconds and not a minute. A template binds nobody, so several may be asked for at a time; what is sent of them is one join at a time.
 */
import { type TemplateAnswer } from '../../federation/contract.ts';
import { type ServerName } from '../../matrix/identifiers.ts';

/** Asked beside each other. */
const UNDER_WAY_MAX = 3;

export interface Templates {
  /** The resident to go on with: of those asked so far the first in order that has answered or failed; `undefined`: all had their turn. */
  quickest(): Promise<ServerName | undefined>;
  /** The next one in order that had no turn, whatever it has answered. */
  next(): ServerName | undefined;
  /** What it answers; it is asked where it was not yet. Rejects as the request does. */
  of(resident: ServerName): Promise<TemplateAnswer>;
  /** Ends what is under way. */
  close(): void;
}

/** Asks nobody yet. `ask` ends with its signal; `hedgeMs`: how long one resident is waited for before the next is asked too. */
export function askForTemplates(
  order: readonly ServerName[],
  hedgeMs: number,
  ask: (resident: ServerName, signal: AbortSignal) => Promise<TemplateAnswer>,
): Templates {
  const closing = new AbortController();
  const asked = new Map<ServerName, Promise<TemplateAnswer>>();
  const settled = new Set<ServerName>();
  const left = [...order];
  const underWay = (): number => left.filter((name) => asked.has(name) && !settled.has(name)).length;

  const of = (resident: ServerName): Promise<TemplateAnswer> => {
    const answer = asked.get(resident) ?? ask(resident, closing.signal);
    asked.set(resident, answer);
    const settle = (): void => void settled.add(resident);
    answer.then(settle, settle);
    return answer;
  };
  const give = (resident: ServerName | undefined): ServerName | undefined => {
    if (resident !== undefined) left.splice(left.indexOf(resident), 1);
    return resident;
  };
  /** Until one of those asked has answered, or it is time to ask another. */
  const wait = async (): Promise<void> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, hedgeMs)));
    const answers = left.flatMap((name) => asked.get(name)?.then(nothing, nothing) ?? []);
    const mayHedge = underWay() < UNDER_WAY_MAX && left.some((name) => !asked.has(name));
    await Promise.race(mayHedge ? [...answers, late] : answers);
    clearTimeout(timer);
  };
  return {
    of,
    next: () => give(left[0]),
    async quickest() {
      while (left.length > 0) {
        const done = left.find((name) => settled.has(name));
        if (done !== undefined) return give(done);
        const another = left.find((name) => !asked.has(name));
        if (another !== undefined && underWay() < UNDER_WAY_MAX) void of(another).catch(nothing);
        await wait();
      }
      return undefined;
    },
    close: () => closing.abort(new Error('the join needs no further template')),
  };
}

const nothing = (): void => undefined;
