/**
 * What passes in rooms, in one process: who types, who has read what, who is there. A loop looks who types no more, and tells other servers
 * what was read. Any number of processes run it.
 */
import { startRepeating } from '../repeating.ts';
import { createAclReader } from '../rooms/receive/server-acl.ts';
import { JoinedServers } from '../store/snapshots/joined-servers.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type PassingContext } from './context.ts';
import { type Passing } from './contract.ts';
import { PresenceOfUsers } from './presence.ts';
import { ReceivedReceipts } from './receive-receipts.ts';
import { tellReceipts } from './tell-receipts.ts';
import { Typing } from './typing.ts';

/** How long the end of typing, and what was read, wait at the most. */
const POLL_MS = 1_000;

/** What other servers say; each gives how much of it was not taken. It is written a moment later. */
export interface PassingReceiver {
  receiveTyping(origin: ServerName, contents: readonly JsonObject[]): Promise<number>;
  receiveReceipts(origin: ServerName, contents: readonly JsonObject[]): Promise<number>;
  receivePresence(origin: ServerName, contents: readonly JsonObject[]): Promise<number>;
}

export interface RunningPassing extends Passing, PassingReceiver {
  /** Looks once who types no more and what is to be told, and resolves when all that was said so far is written. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

/** Starts at once; `close` ends it after what it is at. */
export function startPassing(given: PassingContext): RunningPassing {
  const context = { ...given, joined: new JoinedServers(), isAllowed: createAclReader(given.store) };
  const typing = new Typing(context);
  const receipts = new ReceivedReceipts(context);
  const presence = new PresenceOfUsers(context);
  const look = async (isClosing: () => boolean): Promise<void> => {
    await typing.expire();
    while (!isClosing() && (await tellReceipts(context))) given.onSaid();
  };
  const looking = startRepeating(look, {
    everyMs: POLL_MS,
    onFailed: (error) => given.logger.warn({ err: error }, 'what passes in rooms could not be told; it is tried again'),
  });
  const each = [typing, receipts, presence];
  return {
    setTyping: (...said) => typing.set(...said),
    setPresence: (...said) => presence.set(...said),
    presenceOf: (...asked) => presence.of(...asked),
    receiveTyping: (...said) => typing.receive(...said),
    receiveReceipts: (...said) => receipts.receive(...said),
    receivePresence: (...said) => presence.receive(...said),
    settle: async () => {
      await looking.run();
      await Promise.all(each.map((one) => one.settle()));
    },
    close: async () => {
      await looking.close();
      await Promise.all(each.map((one) => one.close()));
    },
  };
}
