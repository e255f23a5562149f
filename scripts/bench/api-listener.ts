/** The process of client-listener.ts, and requests to it. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'undici';
import { packageFile } from '../../src/cli/package.ts';
import { type ListenerReport } from './listener-report.ts';

export interface Listener {
  ask(): Promise<ListenerReport>;
  /** Reads an answer to its end, and gives its length. */
  members(roomId: string): Promise<number>;
  /** `path`: below `/_matrix/client/v3`. Throws unless the answer is 200. */
  json(method: 'GET' | 'POST' | 'PUT', path: string, body?: object): Promise<Record<string, unknown>>;
  close(): void;
}

/** `databaseUrl`: `bare` for a server that holds every request and answers none. */
export async function startListener(databaseUrl: string, serverName: string): Promise<Listener> {
  const script = packageFile('dist/scripts/bench/client-listener.js');
  const child: ChildProcess = fork(script, [databaseUrl, serverName], { execArgv: ['--expose-gc'] });
  const told = async (): Promise<ListenerReport> => ((await once(child, 'message')) as [ListenerReport])[0];
  const { url, accessToken } = await told();
  const dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0, connections: null });
  const headers = { authorization: `Bearer ${accessToken}`, 'content-type': 'application/json' };
  const at = (path: string): string => `${url}/_matrix/client/v3${path}`;
  return {
    ask: () => {
      child.send('report');
      return told();
    },
    members: async (roomId) => {
      const answer = await request(at(`/rooms/${encodeURIComponent(roomId)}/members`), { dispatcher, headers });
      let bytes = 0;
      for await (const piece of answer.body) bytes += (piece as Buffer).length;
      if (answer.statusCode !== 200) throw new Error(`members: status ${answer.statusCode}`);
      return bytes;
    },
    json: async (method, path, body) => {
      const sent = body === undefined ? {} : { body: JSON.stringify(body) };
      const answer = await request(at(path), { dispatcher, headers, method, ...sent });
      const said = (await answer.body.json()) as Record<string, unknown>;
      if (answer.statusCode !== 200) throw new Error(`${path}: status ${answer.statusCode}, ${JSON.stringify(said)}`);
      return said;
    },
    close: () => {
      void dispatcher.destroy().catch(() => undefined);
      child.disconnect();
    },
  };
}
