/** A room with some life in it on a local Synapse: members, messages, a leave, a ban, a change of power levels. */
import pLimit from 'p-limit';
import { invariant } from '../invariant.ts';
import { roomVersionRules } from '../matrix/room-versions.ts';
import { type Progress } from './progress.ts';
import { type SynapseUser } from './synapse-user.ts';
import { type LocalSynapse } from './synapse.ts';

/** One Synapse process does one thing at a time; a few requests in flight keep it busy without making it queue. */
const CONCURRENCY = 8;
/** Enough that a timeline has a past to scroll through. */
const MESSAGES = 12;
const PROGRESS_EVERY = 50;

export interface RoomOptions {
  readonly synapse: LocalSynapse;
  /** Joined users in the end, the owner among them; at least 3. */
  readonly members: number;
  readonly roomVersion: string;
  /** The part of the alias between `#` and `:`; member names carry it too, so that rooms do not share users. */
  readonly aliasLocalpart: string;
  readonly progress: Progress;
}

export interface SynapseRoom {
  readonly roomId: string;
  readonly alias: string;
  /** Its creator, with power level 100. */
  readonly owner: SynapseUser;
  /** Everyone who is joined, the owner first. */
  readonly joined: readonly SynapseUser[];
}

async function createRoom(options: RoomOptions, owner: SynapseUser): Promise<string> {
  return owner.createRoom({
    preset: 'public_chat',
    room_version: options.roomVersion,
    room_alias_name: options.aliasLocalpart,
    name: `Room ${options.aliasLocalpart}`,
    topic: 'A room to be joined',
  });
}

/** Registers and joins users, a few at a time. */
async function joinMany(options: RoomOptions, roomId: string, count: number): Promise<SynapseUser[]> {
  const limit = pLimit(CONCURRENCY);
  let done = 0;
  const names = Array.from({ length: count }, (_, index) => `${options.aliasLocalpart}-${index + 1}`);
  return Promise.all(
    names.map((name) =>
      limit(async () => {
        const user = await options.synapse.registerUser(name);
        await user.join(roomId);
        done += 1;
        if (done % PROGRESS_EVERY === 0) options.progress(`Synapse: ${done} of ${count} members have joined`);
        return user;
      }),
    ),
  );
}

/** Gives the room a past: what a state walk has to get right. */
async function makeHistory(
  room: SynapseRoom,
  roomVersion: string,
  leaver: SynapseUser,
  banned: SynapseUser,
): Promise<void> {
  const { roomId, owner, joined } = room;
  const moderator = joined[1];
  invariant(moderator !== undefined, 'a room has at least three members');
  await leaver.leave(roomId);
  await owner.ban(roomId, banned.userId);
  // From version 12 on creators stand above all levels and may not be listed.
  const ownerLevel = roomVersionRules(roomVersion)?.privilegedCreators === true ? {} : { [owner.userId]: 100 };
  await owner.sendState(roomId, 'm.room.power_levels', '', {
    users: { ...ownerLevel, [moderator.userId]: 50 },
    users_default: 0,
    events_default: 0,
    state_default: 50,
    ban: 50,
    kick: 50,
    redact: 50,
    invite: 0,
  });
  await moderator.sendState(roomId, 'm.room.topic', '', { topic: 'A room that has been moderated' });
  for (let count = 0; count < MESSAGES; count += 1) {
    const sender = joined[count % joined.length];
    await sender?.sendMessage(roomId, `Message ${count + 1}`);
  }
}

/** Makes a public room with an alias, that many members, and some history. */
export async function createPopulatedRoom(options: RoomOptions): Promise<SynapseRoom> {
  invariant(options.members >= 3, 'a room has at least three members');
  const owner = await options.synapse.registerUser(`${options.aliasLocalpart}-owner`);
  const roomId = await createRoom(options, owner);
  const [leaver, banned, ...others] = await joinMany(options, roomId, options.members + 1);
  invariant(leaver !== undefined && banned !== undefined, 'two users leave again');
  const alias = `#${options.aliasLocalpart}:${options.synapse.serverName}`;
  const room = { roomId, alias, owner, joined: [owner, ...others] };
  await makeHistory(room, options.roomVersion, leaver, banned);
  return room;
}
