/** How many members of each server are joined, kept up with every change of a membership. */
import { type ServerName, type UserId, domainOf } from '../matrix/identifiers.ts';

export interface MemberCounts {
  /** Notes a membership that takes the place of another; `undefined` where there was none. */
  change(userId: string, before: string | undefined, after: string | undefined): void;
  /** Servers with a joined member. */
  servers(): ServerName[];
  joined(): number;
}

/** Counts of a room that nobody is in yet. */
export function memberCounts(): MemberCounts {
  const byServer = new Map<ServerName, number>();
  let total = 0;
  return {
    change(userId, before, after) {
      const difference = Number(after === 'join') - Number(before === 'join');
      if (difference === 0) return;
      total += difference;
      const server = domainOf(userId as UserId);
      const count = (byServer.get(server) ?? 0) + difference;
      if (count === 0) byServer.delete(server);
      else byServer.set(server, count);
    },
    servers: () => [...byServer.keys()],
    joined: () => total,
  };
}
