/** A TCP line that a test can make dead: what is sent arrives nowhere, and nobody is told. Or one over which nobody listens. */
import { once } from 'node:events';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';

export interface TcpGate {
  /** `127.0.0.1:port`. */
  readonly address: string;
  /** From now on nothing passes, in either direction. */
  close(): void;
  /** New connections work again; old ones have lost bytes, and are of no use any more. */
  open(): void;
  /** Connections over which PostgreSQL is told to LISTEN are cut from now on, those of before too; gives how many listen or have. */
  deafen(): number;
  stop(): Promise<void>;
}

/** Passes connections on to `host:port`. */
export async function startTcpGate(target: string): Promise<TcpGate> {
  const [host = '', port = ''] = target.split(':');
  const sockets = new Set<Socket>();
  const listening = new Set<Socket>();
  let isOpen = true;
  let isDeaf = false;
  let listened = 0;
  const server = createServer((near) => {
    const far = connect(Number(port), host);
    near.on('data', (chunk: Buffer) => {
      if (!chunk.includes('LISTEN ')) return;
      listening.add(near);
      listened += 1;
      near.on('close', () => listening.delete(near));
      if (isDeaf) near.destroy();
    });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('data', (chunk: Buffer) => isOpen && to.write(chunk));
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => (isOpen = false),
    open: () => (isOpen = true),
    deafen: () => {
      isDeaf = true;
      for (const socket of listening) socket.destroy();
      return listened;
    },
    stop: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
