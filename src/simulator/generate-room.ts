/**
 * Makes a simulated room: founded by a user of the first resident, grown by joins, departures, bans and changes of power,
 * and ending with the recent messages. Every event is allowed by the auth rules of its room version; a test judges them.
 */
import { type Draft } from '../matrix/compose.ts';
import { invariant } from '../invariant.ts';
import { type RoomAlias, type ServerName } from '../matrix/identifiers.ts';
import { roomVersionRules } from '../matrix/room-versions.ts';
import { type ForkingRoom, withForks } from './forks.ts';
import { createContent, firstPowerLevels, foundingDrafts } from './founding.ts';
import { growRoom } from './grow-room.ts';
import { type Act, outsiderCounts, planHistory } from './history.ts';
import { type ActPlayer, actPlayer } from './play-acts.ts';
import { type Person, type Population, joinContent, populate } from './population.ts';
import { type RoomShape, type WholeRoomShape, wholeRoomShape } from './room-shape.ts';
import { type SimulatedEvent, type SimulatedRoom } from './room.ts';
import { type SeededRandom, seededRandom } from './seeded-random.ts';
import { type ServerKeys } from './server-keys.ts';
import { messageText, roomName } from './words.ts';

/** Names for the servers of a room. */
export interface RoomServers {
  /** The servers that answer for the room; a user of the first creates it. At least one, at most `shape.servers`. */
  readonly residents: readonly ServerName[];
  /** As many others as the room needs, and perhaps more. */
  readonly memberServers: readonly ServerName[];
}

/** All rooms have the same years behind them, so that event ids do not depend on the day. */
const FOUNDED_AT_MS = Date.UTC(2022, 4, 30, 9);
const FOUNDING_STEP_MS = 40;
const HISTORY_STARTS_AT_MS = FOUNDED_AT_MS + 60_000;
const HISTORY_MS = 3 * 365 * 86_400_000;
/** The recent messages come after the history, this far apart at most. */
const MESSAGE_STEP_MS_MAX = 20 * 60_000;
/** States are kept from this many acts before the messages, so that a room without messages can be asked about, too. */
const KEPT_ACTS = 10;
/** Between messages people change their profiles now and then, so that not all states are one. */
const RECENT_PROFILE_CHANGE_SHARE = 0.04;
const REPLY_SHARE = 0.2;

/**
 * Makes the `roomNo`-th room of a federation, from 0. Throws an invariant for an unknown room version, fewer servers than
 * residents, fewer names than servers, and fewer members than servers.
 */
export function generateRoom(shape: RoomShape, names: RoomServers, keys: ServerKeys, roomNo: number): SimulatedRoom {
  const whole = wholeRoomShape(shape);
  const rules = roomVersionRules(whole.roomVersion);
  invariant(rules !== undefined, `room version ${whole.roomVersion} is unknown`);
  const random = seededRandom(whole.seed, `room ${String(roomNo)}`);
  const { left, banned, invited } = outsiderCounts(whole);
  const population = populate(serversOf(whole, names), whole.members, left + banned + invited, random);
  const founder = population.members[0] as Person;
  const alias = `#${whole.namesBegin}${roomName(roomNo)}:${founder.server}` as RoomAlias;
  const growing = growRoom({
    rules,
    creator: founder.userId,
    idBegins: whole.namesBegin,
    alias,
    createContent: createContent(founder.userId, rules),
    createdAtMs: FOUNDED_AT_MS,
    keys,
    random: seededRandom(whole.seed, `room ${String(roomNo)} growth`),
  });
  const founding = [joinOf(founder, random), ...foundingDrafts(founder.userId, alias, rules, random)];
  founding.forEach((draft, index) =>
    growing.place(draft, { originServerTsMs: FOUNDED_AT_MS + (index + 1) * FOUNDING_STEP_MS }),
  );

  const forking = withForks(growing, whole.forkShare, random);
  const player = actPlayer(founder, firstPowerLevels(founder.userId, rules), random);
  playHistory(planHistory(whole, population, random), player, forking);
  growing.gather(whole.crowd, serversOf(whole, names));
  talk(whole.messages, population, forking, random);
  return growing.room;
}

/** The residents, largest first, and then as many others as there are to be. */
function serversOf({ servers }: WholeRoomShape, { residents, memberServers }: RoomServers): ServerName[] {
  invariant(residents.length >= 1 && residents.length <= servers, 'a room has a resident, and no more than servers');
  const others = memberServers.slice(0, servers - residents.length);
  invariant(residents.length + others.length === servers, 'there is a name for every server');
  return [...residents, ...others];
}

function playHistory(acts: readonly Act[], player: ActPlayer, forking: ForkingRoom): void {
  let keepsStates = false;
  for (const [index, act] of acts.entries()) {
    if (!keepsStates && index >= acts.length - KEPT_ACTS) keepsStates = forking.keepStates();
    const originServerTsMs = HISTORY_STARTS_AT_MS + Math.floor(act.at * HISTORY_MS);
    forking.place(player.draft(act), originServerTsMs, act.kind === 'join' || act.kind === 'profile');
  }
  if (!keepsStates) forking.keepStates();
}

/** Recent messages, most of them by a few, and profile changes between them. */
function talk(messages: number, { members }: Population, forking: ForkingRoom, random: SeededRandom): void {
  let originServerTsMs = HISTORY_STARTS_AT_MS + HISTORY_MS;
  let last: SimulatedEvent | undefined;
  const speaker = (): Person => members[Math.floor(random.fraction() ** 3 * members.length)] as Person;
  for (let sent = 0; sent < messages; sent++) {
    originServerTsMs += 1 + random.below(MESSAGE_STEP_MS_MAX);
    if (random.chance(RECENT_PROFILE_CHANGE_SHARE)) {
      forking.place(joinOf(speaker(), random), originServerTsMs, true);
      originServerTsMs += 1 + random.below(MESSAGE_STEP_MS_MAX);
    }
    const repliedTo = random.chance(REPLY_SHARE) ? last : undefined;
    // A reply has seen what it replies to, and cannot stand beside it.
    last = forking.place(message(speaker(), repliedTo, random), originServerTsMs, repliedTo === undefined);
  }
}

/** A join, or of who is joined a change of profile. */
function joinOf(person: Person, random: SeededRandom): Draft {
  return {
    sender: person.userId,
    type: 'm.room.member',
    stateKey: person.userId,
    content: joinContent(person, random),
  };
}

function message({ userId }: Person, repliedTo: SimulatedEvent | undefined, random: SeededRandom): Draft {
  const relation = repliedTo && { 'm.relates_to': { 'm.in_reply_to': { event_id: repliedTo.eventId } } };
  return {
    sender: userId,
    type: 'm.room.message',
    content: { body: messageText(random), ...relation, 'm.mentions': {}, msgtype: 'm.text' },
  };
}
