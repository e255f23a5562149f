/** `rejoinder services …`: how application services stand, and what is done about one that takes no more. */
import { retriedServiceAnswer, servicesAnswer, skippedServiceAnswer } from '../../operator/answer-forms.ts';
import { type ClientOptions, connectOperator } from '../operator-client.ts';
import { type Output, table } from '../output.ts';
import { understood } from '../understood.ts';

interface ServicesOptions extends ClientOptions {
  readonly json: boolean;
}

interface DecisionOptions extends ServicesOptions {
  readonly by: string | undefined;
  readonly reason: string | undefined;
}

/** Prints how each stands. */
export async function listServices(options: ServicesOptions, output: Output): Promise<void> {
  const { services } = understood(servicesAnswer, await ask('/services', undefined, options));
  if (options.json) {
    for (const service of services) output.line(JSON.stringify(service));
    return;
  }
  if (services.length === 0) {
    output.line('No application services. Registration files are named by app_service_config_files.');
    return;
  }
  const rows = services.map((one) => [
    ...[one.id, one.state, one.position === null ? '' : String(one.position), String(one.lag), one.oldest_at ?? ''],
    ...[String(one.failures), one.next_try_at ?? '', one.transaction?.id ?? '', one.last_failure ?? ''],
  ]);
  const head = ['SERVICE', 'STATE', 'TOLD', 'LAG', 'OLDEST', 'FAILURES', 'NEXT TRY', 'TRANSACTION', 'LAST FAILURE'];
  for (const line of table(head, rows)) output.line(line);
}

/** Has what a service did not take sent at once. */
export async function retryService(service: string, options: DecisionOptions, output: Output): Promise<void> {
  const { by, reason } = options;
  const path = `/services/${encodeURIComponent(service)}/retry`;
  const answer = understood(retriedServiceAnswer, await ask(path, { by, reason }, options));
  if (options.json) output.json(answer);
  else output.line(`${answer.service} is sent at once what it did not take`);
}

/** Gives up a transaction, or everything that waits. */
export async function skipForService(
  service: string,
  options: DecisionOptions & { readonly transaction: string | undefined; readonly everything: true | undefined },
  output: Output,
): Promise<void> {
  const { by, reason, transaction, everything } = options;
  const path = `/services/${encodeURIComponent(service)}/skip`;
  const body = { by, reason, transaction, everything };
  const answer = understood(skippedServiceAnswer, await ask(path, body, options));
  if (options.json) {
    output.json(answer);
    return;
  }
  const { skipped } = answer;
  if ('events' in skipped) {
    output.line(`${answer.service} is not told transaction ${skipped.transaction}:`);
    for (const { event_id: eventId, room_id: roomId } of skipped.events) output.line(`  ${eventId}  ${roomId}`);
  } else {
    output.line(`${answer.service} is told nothing of what is between ${skipped.after} and ${skipped.up_to}`);
  }
}

async function ask(path: string, post: object | undefined, options: ServicesOptions): Promise<unknown> {
  const client = await connectOperator(options);
  try {
    return (await client.ask(path, post === undefined ? undefined : { post })).body;
  } finally {
    await client.close();
  }
}
