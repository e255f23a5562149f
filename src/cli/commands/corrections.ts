/** `rejoinder corrections <room>`: what turned out otherwise than it had been judged, a line each, with what it rested on. */
import { type z } from 'zod';
import { correctionsAnswer } from '../../operator/answer-forms.ts';
import { understood } from '../understood.ts';
import { type ClientOptions, type OperatorClient, connectOperator } from '../operator-client.ts';
import { type Output, printable } from '../output.ts';

export interface CorrectionsOptions extends ClientOptions {
  readonly json: boolean;
}

type Correction = z.output<typeof correctionsAnswer>['corrections'][number];

const LIMIT = 500;

/** Prints all corrections of a room, oldest first. */
export async function corrections(room: string, options: CorrectionsOptions, output: Output): Promise<void> {
  const client = await connectOperator(options);
  try {
    let count = 0;
    for await (const page of pagesOf(client, room)) {
      count += page.length;
      for (const correction of page) {
        if (options.json) {
          output.line(JSON.stringify(correction));
        } else {
          printCorrection(correction, output);
        }
      }
    }
    if (count === 0 && !options.json) output.line('Nothing in this room turned out otherwise than it had been judged.');
  } finally {
    await client.close();
  }
}

/** Up to where the journal ended when the first page was asked for: a busy room would have no last page. */
async function* pagesOf(client: OperatorClient, room: string): AsyncGenerator<readonly Correction[]> {
  let end: number | undefined;
  for (let from = 0; end === undefined || from < end;) {
    const path = `/rooms/${encodeURIComponent(room)}/corrections?from=${from}&limit=${LIMIT}`;
    const { corrections: page, next, head } = understood(correctionsAnswer, (await client.ask(path)).body);
    yield page;
    end ??= head;
    from = next;
  }
}

function printCorrection(
  { recorded_at: at, explanation, turned_out_otherwise: turned }: Correction,
  output: Output,
): void {
  output.line(`${output.colours.dim(printable(at))}  ${printable(explanation)}`);
  for (const { was, is } of turned) {
    const before = was === null ? 'nothing was known' : `${was.says} (${was.event_id})`;
    const now = is === null ? 'nothing stands there' : `${is.says} (${is.event_id})`;
    output.line(`  before: ${printable(before)}; in truth: ${printable(now)}`);
  }
}
