/** `rejoinder explain <event>`: the story of one event. The demo ends with it. */
import { type z } from 'zod';
import { storyAnswer } from '../../operator/answer-forms.ts';
import { understood } from '../understood.ts';
import { type ClientOptions, type OperatorClient, connectOperator } from '../operator-client.ts';
import { type Output, printable } from '../output.ts';

export interface ExplainOptions extends ClientOptions {
  readonly json: boolean;
}

/** Prints what is known of an event. */
export async function explain(eventId: string, options: ExplainOptions, output: Output): Promise<void> {
  const client = await connectOperator(options);
  try {
    const { body } = await askStory(client, eventId);
    if (options.json) output.json(body);
    else for (const line of storyLines(body)) output.line(line);
  } finally {
    await client.close();
  }
}

/** Asks for the story of an event. */
export function askStory(client: OperatorClient, eventId: string): ReturnType<OperatorClient['ask']> {
  return client.ask(`/events/${encodeURIComponent(eventId)}`);
}

/** The story as it is printed. */
export function storyLines(body: unknown): string[] {
  const { story }: z.output<typeof storyAnswer> = understood(storyAnswer, body);
  return story.map(printable);
}
