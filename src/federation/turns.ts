/** Places for work that takes long, taken by turns: a group of which much waits keeps no other group waiting. */
export interface Turns {
  /** Runs `task`, which never rejects, when its group has a place. */
  run(group: string, task: () => Promise<void>): void;
}

/** `ofGroupMax`: what one group may have running, however free the other places are. */
export function createTurns(placesMax: number, ofGroupMax = placesMax): Turns {
  /** In the order of their turns. */
  const waiting = new Map<string, (() => Promise<void>)[]>();
  const running = new Map<string, number>();
  let inAll = 0;

  const count = (group: string, change: 1 | -1): void => {
    inAll += change;
    const ofGroup = (running.get(group) ?? 0) + change;
    if (ofGroup === 0) running.delete(group);
    else running.set(group, ofGroup);
  };
  const start = (group: string, tasks: (() => Promise<void>)[]): void => {
    const task = tasks.shift();
    // To the back, where it has more.
    waiting.delete(group);
    if (tasks.length > 0) waiting.set(group, tasks);
    if (task === undefined) return;
    count(group, 1);
    void task().finally(() => {
      count(group, -1);
      startMore();
    });
  };
  const startMore = (): void => {
    while (inAll < placesMax) {
      const next = [...waiting].find(([group]) => (running.get(group) ?? 0) < ofGroupMax);
      if (next === undefined) return;
      start(...next);
    }
  };

  return {
    run(group, task) {
      const tasks = waiting.get(group);
      if (tasks === undefined) waiting.set(group, [task]);
      else tasks.push(task);
      startMore();
    },
  };
}
