/** Places for work that takes long, taken by turns: a group of which much waits keeps no other group waiting. */
import { type Cancellation, errorOf } from './cancellation.ts';

export interface Turns {
  /** Runs `task`, which never rejects, when its group has a place. `urgency` is asked each time that a place is free: the smallest goes first. */
  run(group: string, task: () => Promise<void>, urgency?: () => number): void;
}

interface Task {
  readonly run: () => Promise<void>;
  readonly urgency: () => number;
}

/** Of so many places that are taken one after the other by what is urgent, the next goes to whoever has waited longest. */
const URGENT_IN_A_ROW = 3;
const none = (): number => Number.POSITIVE_INFINITY;

/** `ofGroupMax`: what one group may have running, however free the other places are. */
export function createTurns(placesMax: number, ofGroupMax = placesMax): Turns {
  /** In the order of their turns. */
  const waiting = new Map<string, Task[]>();
  const running = new Map<string, number>();
  let inAll = 0;
  let urgentInARow = 0;

  const count = (group: string, change: 1 | -1): void => {
    inAll += change;
    const ofGroup = (running.get(group) ?? 0) + change;
    if (ofGroup === 0) running.delete(group);
    else running.set(group, ofGroup);
  };
  const start = (group: string, tasks: Task[], at: number): void => {
    const [task] = tasks.splice(at, 1);
    // To the back, where it has more.
    waiting.delete(group);
    if (tasks.length > 0) waiting.set(group, tasks);
    if (task === undefined) return;
    count(group, 1);
    void task.run().finally(() => {
      count(group, -1);
      startMore();
    });
  };
  const startMore = (): void => {
    while (inAll < placesMax) {
      const open = [...waiting].filter(([group]) => (running.get(group) ?? 0) < ofGroupMax);
      const [first] = open;
      if (first === undefined) return;
      const urgent = urgentInARow < URGENT_IN_A_ROW ? urgentOf(open) : undefined;
      urgentInARow = urgent === undefined ? 0 : urgentInARow + 1;
      start(...(urgent ?? ([...first, 0] as const)));
    }
  };

  return {
    run(group, run, urgency = none) {
      const task = { run, urgency };
      const tasks = waiting.get(group);
      if (tasks === undefined) waiting.set(group, [task]);
      else tasks.push(task);
      startMore();
    },
  };
}

/** Waits for a turn of the group's; gives what ends it. Rejects with the signal's reason. */
export function takeTurn(
  turns: Turns,
  group: string,
  signal: Cancellation,
  urgency?: () => number,
): Promise<() => void> {
  return new Promise((resolve, reject) => {
    const gone = { handleEvent: (): void => reject(errorOf(signal.reason)) };
    if (signal.aborted) {
      gone.handleEvent();
      return;
    }
    signal.addEventListener('abort', gone);
    const begin = (): Promise<void> => {
      signal.removeEventListener('abort', gone);
      return signal.aborted ? Promise.resolve() : new Promise(resolve);
    };
    turns.run(group, begin, urgency);
  });
}

/** The most urgent one, of several the first, with its place among those of its group; `undefined`: none is urgent. */
function urgentOf(open: readonly (readonly [string, Task[]])[]): readonly [string, Task[], number] | undefined {
  let most = none();
  let found: readonly [string, Task[], number] | undefined;
  for (const [group, tasks] of open) {
    for (const [at, { urgency }] of tasks.entries()) {
      const mine = urgency();
      if (mine >= most) continue;
      most = mine;
      found = [group, tasks, at];
    }
  }
  return found;
}
