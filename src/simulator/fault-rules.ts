/** The rules in force: which requests they strike, how often, and what they hold. Of the fault proxy and the simulator. */
import { type FaultContext } from './faults.ts';

/** A rule in force. */
export interface ActiveFault {
  /** Requests it has struck. */
  hits(): number;
  /** Resolves when a `hold` has stopped a body for the first time. */
  readonly held: Promise<void>;
  /** Lets go of the bodies that a `hold` has stopped, and of those to come. */
  release(): void;
  /** Strikes no further request; those struck go on. */
  remove(): void;
}

/** A rule that struck a request, with what its fault needs to know. */
export interface Struck<Rule> {
  readonly rule: Rule;
  readonly context: Omit<FaultContext, 'signal'>;
}

interface Entry<Rule> extends Struck<Rule> {
  readonly active: ActiveFault;
  hits: number;
}

export class FaultRules<Rule extends { readonly times?: number }> {
  readonly #entries: Entry<Rule>[] = [];

  inject(rule: Rule): ActiveFault {
    const held = deferred();
    const released = deferred();
    const active: ActiveFault = {
      hits: () => entry.hits,
      held: held.promise,
      release: released.resolve,
      remove: () => {
        const at = this.#entries.indexOf(entry);
        if (at >= 0) this.#entries.splice(at, 1);
      },
    };
    const context = { onHeld: held.resolve, released: released.promise };
    const entry: Entry<Rule> = { rule, active, context, hits: 0 };
    this.#entries.push(entry);
    return active;
  }

  /** Removes all rules and lets go of what they hold. */
  clear(): void {
    for (const { active } of [...this.#entries]) {
      active.remove();
      active.release();
    }
  }

  /** The rules that strike a request, in the order they were added; each has one time less from now on. */
  strike(matches: (rule: Rule) => boolean): readonly Struck<Rule>[] {
    const struck = this.#entries.filter(({ rule, hits }) => hits < (rule.times ?? Infinity) && matches(rule));
    for (const entry of struck) entry.hits += 1;
    return struck;
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void;
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}
