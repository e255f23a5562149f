/**
 * Somebody who has power leaves, and his server has him do something beside that, as if he had not: each is right at its place, and
 * at every server that knew of the leave when the other came, that is soft-failed.
 */
import { type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { type Scene, contentAt, hasPower, member, membership, one } from './acts.ts';
import { type Act } from './world.ts';

export const BESIDE_A_LEAVE = {
  /** Not whoever made the room: without him nobody could change much in it any more. */
  'power leaves': (scene: Scene): Act | undefined =>
    one(
      scene,
      scene.server.users,
      (user) => user !== scene.world.users[0] && membership(scene, user) === 'join' && hasPower(scene, user),
      (user) => member(user, user, 'leave'),
    ),
  /** Who has left forbids all others who have no power to speak. */
  'beside the leave': (scene: Scene): Act | undefined => {
    const { world, server } = scene;
    const leave = [...world.events.values()].findLast(
      (event) =>
        isLeave(event) && server.users.some((user) => user === event.sender) && !world.truth.isRejected(event.eventId),
    );
    if (leave === undefined) return undefined;
    const before = world.truth.stateBefore(leave.eventId);
    const there = { ...scene, state: before };
    if (!hasPower(there, leave.sender)) return undefined;
    const content: JsonObject = { ...contentAt(there, 'm.room.power_levels'), events_default: 1 };
    return { sender: leave.sender, type: 'm.room.power_levels', stateKey: '', content, prev: leave.prevEvents };
  },
} satisfies Record<string, (scene: Scene) => Act | undefined>;

function isLeave({ type, stateKey, sender, content }: Pdu): boolean {
  return type === 'm.room.member' && stateKey === sender && content['membership'] === 'leave';
}
