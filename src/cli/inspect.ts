/** The `inspect` commands on the command line: arguments and help. What they do is loaded when they are called. */
import { type Command, Option } from 'commander';
import { ROOM_VERSIONS } from '../matrix/room-versions.ts';
import { type InspectQuestion } from './commands/inspect.ts';
import { type Output } from './output.ts';

interface InspectFlags {
  readonly roomVersion: string;
  readonly keys?: string;
  readonly batch?: true;
}

const QUESTIONS = {
  event: {
    description: 'Tell what an event is: its id, hashes, canonical JSON, redaction and signatures.',
    document: 'The document is an event, bare or as {"event": …}.',
  },
  auth: {
    description: 'Tell whether the auth rules allow an event by its auth events, and which rule refuses it.',
    document:
      'The document is {"event": …, "auth_events": [ … ]}; in version 12 the create event belongs into auth_events too.',
  },
  resolve: {
    description: 'Tell which state comes out of several.',
    document:
      'The document is {"events": [ … ], "state_sets": [[event ids], …]}; an event may carry "event_id", used as it is.',
  },
} as const satisfies Record<InspectQuestion, object>;

/** Adds `rejoinder inspect` with its questions. */
export function addInspectCommands(program: Command, output: Output): void {
  const inspect = program
    .command('inspect')
    .description('Look into events, auth rules and state resolution, without a server: for debugging rooms.');
  for (const question of Object.keys(QUESTIONS) as InspectQuestion[]) {
    const { description, document } = QUESTIONS[question];
    const command = inspect
      .command(question)
      .description(`${description} Reads JSON from a file or standard input, prints JSON.`)
      .argument('[file]', 'file to read (default: standard input, as is -)')
      .addOption(
        new Option('--room-version <version>', 'the room version').choices(ROOM_VERSIONS).makeOptionMandatory(),
      )
      .option('--batch', 'one document a line in, one answer a line out; a bad one is answered {"error": …}')
      .addHelpText('after', `\n${document}`);
    if (question === 'event') {
      command.option('--keys <file>', 'public keys to check signatures with: {"server": {"key_id": "base64"}}');
    }
    command.action(async (file: string | undefined, flags: InspectFlags) => {
      const { inspectDocuments } = await import('./commands/inspect.ts');
      await inspectDocuments(question, { ...flags, file, batch: flags.batch === true }, output);
    });
  }
}
