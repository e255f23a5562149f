/** The fold of what is learned about the servers of a room: by joins, by answers, and by who speaks. */
import { type EventId, type ServerName, domainOf } from '../../matrix/identifiers.ts';
import { hasPlaceForSpeaker } from '../../resync/candidates.ts';
import { type ResyncEvent, type TimelineEvent } from '../../resync/events.ts';
import { type Transaction } from '../open-store.ts';
import { type ServerSource, learnServers, learnSpeakingServers } from '../tables/room-servers.ts';
import { type EventFacts } from './fold-timeline.ts';
import { type LockedRoom, readResync } from './rooms.ts';

/** The servers that a control event tells of, by how it knows them. */
function serversOf(event: ResyncEvent): readonly [ServerSource, readonly ServerName[]][] {
  if (event.type === 'PartialStateJoined' || event.type === 'ResidentsLearned') {
    return [
      ['answered', [event.joinedVia]],
      ['via', event.via ?? []],
      ['hint', event.serversInRoom],
    ];
  }
  if (event.type === 'FullStateJoined' || event.type === 'ParentsLearned') return [['answered', [event.joinedVia]]];
  return event.type === 'StateFetched' ? [['answered', [event.resident]]] : [];
}

/** Keeps every server that the events tell of, with the best that is known of how. */
export async function foldRoomServers(
  tx: Transaction,
  { roomId }: LockedRoom,
  events: readonly ResyncEvent[],
): Promise<void> {
  for (const event of events) {
    const learned = serversOf(event).filter(([, servers]) => servers.length > 0);
    for (const [source, servers] of learned) await learnServers(tx, roomId, servers, source, event.at);
  }
}

/** Servers that spoke in the room for the first time, and when that was learned, milliseconds. */
interface Speakers {
  readonly servers: readonly ServerName[];
  readonly at: number;
}

/** Keeps the servers that speak in the room for the first time. `at`: as for `learnSpeakingServers`. */
export async function foldSpeakers(
  tx: Transaction,
  { roomId }: LockedRoom,
  timeline: readonly TimelineEvent[],
  facts: ReadonlyMap<EventId, EventFacts>,
  at?: number,
): Promise<Speakers | undefined> {
  const speakers = new Set<ServerName>();
  for (const event of timeline) {
    if (event.type !== 'PduAccepted') continue;
    const fact = facts.get(event.eventId);
    const server = fact?.isSpeakerKnown === false ? domainOf(fact.sender) : undefined;
    if (server !== undefined && server !== tx.serverName) speakers.add(server);
  }
  if (speakers.size === 0) return undefined;
  const servers = [...speakers];
  return { servers, at: await learnSpeakingServers(tx, roomId, servers, at) };
}

/**
 * In a partial room the resync is told of those servers that it has a place for, by the control event returned, to be appended
 * with what they said.
 */
export async function toldOfSpeakers(
  tx: Transaction,
  room: LockedRoom,
  speakers: Speakers | undefined,
): Promise<ResyncEvent | undefined> {
  if (speakers === undefined || !room.partial) return undefined;
  const state = (await readResync(tx, room.roomId))?.state;
  const servers = speakers.servers.filter((server) => state !== undefined && hasPlaceForSpeaker(state, server));
  return servers.length === 0 ? undefined : { type: 'SpeakersLearned', servers, at: speakers.at };
}
