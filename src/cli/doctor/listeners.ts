/** Whether the addresses to listen on are free. */
import { createServer } from 'node:net';
import { type ListenerConfig } from '../../config.ts';
import { type Finding, firstLine } from './finding.ts';

/** Whether an address can be listened on, or who holds it. */
export async function checkListener(name: string, { host, port }: ListenerConfig): Promise<Finding> {
  const subject = `${name} listener`;
  const where = `${host}:${port}`;
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port }, () => server.close(() => resolve()));
    });
    return { subject, verdict: 'ok', found: `${where} is free` };
  } catch (error) {
    const isTaken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
    return {
      subject,
      verdict: isTaken ? 'note' : 'bad',
      found: isTaken ? `${where} is in use` : `${where}: ${firstLine(error)}`,
      remedy: isTaken
        ? `Right if Rejoinder runs already; else end what listens there, or change listeners.${name}.port.`
        : `Correct listeners.${name}.host or .port.`,
    };
  }
}
