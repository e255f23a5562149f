/** What the use cases on what passes are given; nothing ambient. */
import { type RoomsContext } from '../rooms/context.ts';
import { type AclReader } from '../rooms/receive/server-acl.ts';
import { type JoinedServers } from '../store/snapshots/joined-servers.ts';

export interface PassingContext extends Pick<RoomsContext, 'serverName' | 'store' | 'clock' | 'logger'> {
  /** Told when there is something for other servers. */
  readonly onSaid: () => void;
}

/** The same, with what one process remembers of rooms. */
export interface RememberingContext extends PassingContext {
  readonly joined: JoinedServers;
  readonly isAllowed: AclReader;
}
