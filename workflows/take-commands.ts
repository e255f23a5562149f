/**
 * What people command of the workflow of a room, as signals and updates with plain JSON, from Temporal's UI or its command line. An
 * activity reads what came and journals what is decided; a workflow only hands it on, one after the other in the order in which
 * they came. Whatever stands in a signal fails nothing: what cannot be followed is a journalled refusal.
 */
import {
  ApplicationFailure,
  CancellationScope,
  defineSignal,
  defineUpdate,
  log,
  patched,
  setDefaultSignalHandler,
  setHandler,
} from '@temporalio/workflow';
import { COMMAND_FORMS, COMMAND_SUMMARIES, type CommandName } from '../src/resync/commands.ts';
import { type CommandAnswer, type GivenCommand } from '../src/temporal/contract.ts';

/** More that come meanwhile are left: nobody sends so many by hand. */
const PENDING_MAX = 50;
/** Of the JSON of a body: what is longer is none that could be followed. */
const BODY_CHARS_MAX = 10_000;
/** Of a signal that is none of ours. */
const NAME_CHARS_MAX = 100;

/** Marks runs that take commands: histories of earlier ones left such signals, but for `resume`. */
const TAKES_COMMANDS = 'takes-commands';

export interface CommandHandling {
  /** Reads and journals it. */
  readonly obey: (command: GivenCommand) => Promise<CommandAnswer>;
  /** Called when the journal may say something new. */
  readonly onObeyed: () => void;
  /** `resume` in a run from before there were commands. */
  readonly onEarlierResume: () => void;
}

/** Sets the handlers. They outlive a cancellation of the run, which closes when they are through. */
export function takeCommands({ obey, onObeyed, onEarlierResume }: CommandHandling): void {
  let pending = 0;
  let last: Promise<unknown> = Promise.resolve();
  const take = async (command: GivenCommand): Promise<CommandAnswer> => {
    if (pending >= PENDING_MAX) {
      log.warn('a command is left, since too many are waiting', { command: command.name });
      return { refused: `${pending} commands are waiting already` };
    }
    pending += 1;
    const run = last.then(() => CancellationScope.nonCancellable(() => obey(command)));
    last = run.catch(() => undefined);
    try {
      return await run;
    } finally {
      pending -= 1;
      onObeyed();
    }
  };
  const signalled = async (name: string, body: unknown): Promise<void> => {
    if (patched(TAKES_COMMANDS)) {
      await take({ name: name.slice(0, NAME_CHARS_MAX), body: bounded(body), isSignal: true });
    } else if (name === ('resume' satisfies CommandName)) {
      onEarlierResume();
    }
  };
  for (const name of Object.keys(COMMAND_SUMMARIES) as CommandName[]) {
    const description = `${COMMAND_SUMMARIES[name]} ${COMMAND_FORMS[name]}`;
    setHandler(defineSignal<[unknown]>(name), (body) => signalled(name, body), { description });
    const update = defineUpdate<CommandAnswer, [unknown]>(name);
    setHandler(
      update,
      async (body) => {
        const answer = await take({ name, body: bounded(body), isSignal: false });
        if ('refused' in answer) throw ApplicationFailure.nonRetryable(answer.refused, 'CommandRefused');
        return answer;
      },
      { description },
    );
  }
  setDefaultSignalHandler((name, ...bodies) => signalled(name, bodies[0]));
}

function bounded(body: unknown): unknown {
  const length = body === undefined ? 0 : JSON.stringify(body).length;
  return length > BODY_CHARS_MAX ? `${length} characters` : body;
}
