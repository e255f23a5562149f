/** How a simulated room begins: its maker, who may do what, and who is in. */
import { type UserId } from '../../src/matrix/identifiers.ts';
import { type Json } from '../../src/matrix/pdu.ts';
import { type Random } from '../differential/random.ts';
import { join, member, sceneAt } from './acts.ts';
import { type World } from './world.ts';

/** Makes the room at the first server; all servers know all of it then. */
export function foundRoom(world: World, random: Random): void {
  const [first] = world.servers;
  const [maker] = world.users;
  if (first === undefined || maker === undefined) throw new Error('a room has a server and a user');
  const { rules } = world;
  const tell = (): void => world.servers.forEach((server) => world.gossip(first, server));
  const creator = rules.creatorIsSender ? {} : { creator: maker };
  const content = { room_version: rules.version, ...creator };
  world.say({ sender: maker, type: 'm.room.create', stateKey: '', content, prev: [], auth: [] }, first);
  world.say(member(maker, maker, 'join'), first);
  const users: Record<UserId, Json> = rules.privilegedCreators ? {} : { [maker]: 100 };
  for (const { users: ofServer } of world.servers.slice(1)) users[ofServer[0]!] = random.pick([50, 50, 100]);
  const levels = { users, state_default: 50, events: { 'm.room.topic': random.pick([0, 50]) } };
  world.say({ sender: maker, type: 'm.room.power_levels', stateKey: '', content: levels }, first);
  const rule = random.pick([
    ...['public', 'public', 'public', 'invite'],
    ...(rules.restrictedJoins ? ['restricted'] : []),
    ...(rules.knockRestricted ? ['knock_restricted'] : []),
  ]);
  world.say({ sender: maker, type: 'm.room.join_rules', stateKey: '', content: { join_rule: rule, allow: [] } }, first);
  tell();
  for (const server of world.servers) {
    for (const [i, user] of server.users.entries()) {
      if (user === maker || (i > 0 && random.chance(0.3))) continue;
      if (rule === 'invite') world.say(member(maker, user, 'invite'), first);
      tell();
      world.say(join(sceneAt(world, server, random), user), server);
      for (const other of world.servers) world.gossip(server, other);
    }
  }
  if (rule === 'invite') for (const user of world.ourUsers) world.say(member(maker, user, 'invite'), first);
  tell();
}
