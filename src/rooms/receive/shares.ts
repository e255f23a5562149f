/**
 * What was asked lately for each server that pushed something, what each sent in answer, both of it for each room, and how much more may
 * be. Counted in this process, minute by minute.
 */
import { type Clock } from '../../clock.ts';
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';

const WINDOW_MS = 60_000;
/** A member who speaks for the first time in a partial room costs one: a big room has hundreds of them at its liveliest. */
const REQUESTS_OF_ORIGIN_MAX = 600;
const REQUESTS_OF_ROOM_MAX = 1_200;
/** And bytes that came, of whoever sent them: to each of that many requests an answer may be long. */
const BYTES_OF_SENDER_MAX = 64 * 1024 * 1024;
const BYTES_OF_ROOM_MAX = 128 * 1024 * 1024;
/** Of the places, and of what a room has a minute, for all servers together that are not known to be in the room. */
export const SHARE_OF_OUTSIDERS = 0.25;
/** Of a share, for what no event's turn waits for yet: what an event lacks now finds a place beside it. */
export const SHARE_AHEAD = 0.5;

/** Whose shares an errand is counted to. */
export interface Errands {
  readonly roomId: RoomId;
  readonly origin: ServerName;
  /** Its events wait for others anyway, and would need it only when these are judged. */
  readonly isAhead: boolean;
  /** The server is not believed to be in the room. */
  readonly isOutside: boolean;
}

interface Use {
  /** Made for its events. */
  requests: number;
  /** Sent by it. */
  bytes: number;
}

interface Share extends Use {
  running: number;
  /** What is counted is of the window that began then. */
  since: number;
  /** Of a room: what each server had of it in this window. */
  readonly of: Map<ServerName, Use>;
  /** Of a room: servers that were asked in this window, and did not answer in time. */
  readonly silent: Set<ServerName>;
  /** When an errand began last, and when a server did not answer last about what it had sent; `NEVER`: not that we know. */
  begunAt: number;
  silentAt: number;
}

const NEVER = Number.NEGATIVE_INFINITY;
const NOTHING: Readonly<Use> = { requests: 0, bytes: 0 };

export interface Shares {
  /** Whether there are requests left of the server's share and of its part of the room's. */
  mayAsk(of: Errands): boolean;
  /** Whether there are bytes left for the server that would be asked, and of its part of the room's. */
  maySend(of: Errands, sender: ServerName): boolean;
  countRequest(of: Errands): void;
  countBytes(of: Errands, sender: ServerName, bytes: number): void;
  begun(of: Errands): void;
  ended(of: Errands): void;
  /** The server that was asked did not answer in time. That of another is nothing against the origin. */
  wasSilent(of: Errands, asked: ServerName): void;
  /** In this minute. */
  isSilent(origin: ServerName): boolean;
  isSilentIn(of: Errands, asked: ServerName): boolean;
  ofOrigin(of: Errands): Readonly<Pick<Share, 'running' | 'begunAt'>>;
  /** That of servers outside of the room is apart. */
  ofRoom(of: Errands): Readonly<Pick<Share, 'running' | 'begunAt'>>;
  forgetIdle(): void;
}

/** Nothing was asked yet for anybody. */
export function createShares(clock: Clock): Shares {
  const origins = new Map<string, Share>();
  const rooms = new Map<string, Share>();

  const isLately = (at: number): boolean => Math.abs(clock.now() - at) < WINDOW_MS;
  const share = (shares: Map<string, Share>, key: string): Share => {
    const since = clock.now();
    const known = shares.get(key) ?? {
      ...NOTHING,
      running: 0,
      since,
      begunAt: NEVER,
      silentAt: NEVER,
      ...{ of: new Map(), silent: new Set() },
    };
    if (!isLately(known.since)) {
      Object.assign(known, NOTHING, { since });
      known.of.clear();
      known.silent.clear();
    }
    shares.set(key, known);
    return known;
  };
  const ofOrigin = ({ origin }: Pick<Errands, 'origin'>): Share => share(origins, origin);
  const ofRoom = ({ roomId, isOutside }: Errands): Share =>
    share(rooms, `${isOutside ? 'outside' : 'inside'} ${roomId}`);

  const isLeft = (
    of: Errands,
    server: ServerName,
    what: keyof Use,
    ofServerMax: number,
    ofRoomMax: number,
  ): boolean => {
    const part = of.isAhead ? SHARE_AHEAD : 1;
    if (ofOrigin({ origin: server })[what] >= ofServerMax * part) return false;
    const shared = ofRoom(of);
    const ofRoomLeft = ofRoomMax * part * (of.isOutside ? SHARE_OF_OUTSIDERS : 1);
    if (shared[what] < ofRoomLeft) return true;
    // Others have used it up: an even part is left to whoever had less. That makes no more of the whole than its product with the
    // logarithm of the number of servers.
    const own = shared.of.get(server);
    const servers = shared.of.size + (own === undefined ? 1 : 0);
    return (own ?? NOTHING)[what] < ofRoomLeft / servers;
  };
  const count = (of: Errands, server: ServerName, { requests = 0, bytes = 0 }: Partial<Use>): void => {
    const shared = ofRoom(of);
    const own = shared.of.get(server) ?? { ...NOTHING };
    shared.of.set(server, own);
    for (const use of [ofOrigin({ origin: server }), shared, own]) {
      use.requests += requests;
      use.bytes += bytes;
    }
  };

  return {
    ofOrigin,
    ofRoom,
    mayAsk: (of) => isLeft(of, of.origin, 'requests', REQUESTS_OF_ORIGIN_MAX, REQUESTS_OF_ROOM_MAX),
    maySend: (of, sender) => isLeft(of, sender, 'bytes', BYTES_OF_SENDER_MAX, BYTES_OF_ROOM_MAX),
    countRequest: (of) => count(of, of.origin, { requests: 1 }),
    countBytes: (of, sender, bytes) => count(of, sender, { bytes }),
    begun(of) {
      for (const shared of [ofOrigin(of), ofRoom(of)]) {
        shared.running += 1;
        shared.begunAt = clock.now();
      }
    },
    ended(of) {
      for (const shared of [ofOrigin(of), ofRoom(of)]) shared.running -= 1;
    },
    wasSilent(of, asked) {
      ofRoom(of).silent.add(asked);
      if (asked === of.origin) ofOrigin(of).silentAt = clock.now();
    },
    isSilent: (origin) => isLately(ofOrigin({ origin }).silentAt),
    isSilentIn: (of, asked) => ofRoom(of).silent.has(asked),
    forgetIdle() {
      for (const shares of [origins, rooms]) {
        for (const [key, { running, since, begunAt, silentAt }] of shares) {
          if (running === 0 && ![since, begunAt, silentAt].some(isLately)) shares.delete(key);
        }
      }
    },
  };
}
