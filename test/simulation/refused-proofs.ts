/**
 * Events that cite what is refused, in the place of what they would have to cite. Whoever does not know yet that it is refused
 * believes them, and whoever gets to know has to refuse them with it, and what cites these in turn.
 */
import { type UserId } from '../../src/matrix/identifiers.ts';
import { type Pdu } from '../../src/matrix/pdu.ts';
import {
  type Scene,
  asIfJoined,
  contentAt,
  gone,
  hasPower,
  joined,
  member,
  membership,
  one,
  powerful,
  say,
} from './acts.ts';
import { type Act } from './world.ts';

export const REFUSED_PROOFS = {
  /** Somebody who may not gives himself power, */
  'refused levels': (scene: Scene): Act | undefined => {
    const { users, isPowerless } = powerless(scene);
    return one(scene, users, isPowerless, (sender) => {
      const content = { ...contentAt(scene, 'm.room.power_levels'), users: { [sender]: 100 } };
      return { sender, type: 'm.room.power_levels', stateKey: '', content };
    });
  },
  /** and somebody in good standing cites that. */
  'by refused levels': (scene: Scene): Act | undefined =>
    joined(scene, (sender) => {
      const act = say(scene, sender);
      const right = authOf(scene, act);
      const levels = lastRefused(scene, (event) => event.type === 'm.room.power_levels' && event.stateKey === '');
      if (levels === undefined) return undefined;
      return { ...act, auth: [...right.filter((id) => typeOf(scene, id) !== levels.type), levels.eventId] };
    }),
  /** Somebody who has left invites a stranger, */
  'refused invite': (scene: Scene): Act | undefined =>
    gone(scene, (sender) =>
      one(
        scene,
        scene.world.users,
        (user) => user !== sender && !['join', 'ban'].includes(membership(scene, user)),
        (user) => asIfJoined(scene, sender, () => member(sender, user, 'invite')),
      ),
    ),
  /** who comes in by that, */
  'by refused invite': (scene: Scene): Act | undefined => {
    const invite = lastRefused(scene, (event) => membershipOf(event) === 'invite');
    const user = scene.server.users.find((one) => one === invite?.stateKey);
    if (invite === undefined || user === undefined) return undefined;
    return citing(scene, member(user, user, 'join'), invite);
  },
  /** is thrown out by somebody who takes him for joined, and may do that whether he is or not, */
  'kick by refused join': (scene: Scene): Act | undefined => {
    const join = lastRefused(scene, (event) => membershipOf(event) === 'join');
    if (join === undefined) return undefined;
    return powerful(scene, (sender) => citing(scene, member(sender, join.sender, 'leave'), join));
  },
  /** and speaks. */
  'by refused join': (scene: Scene): Act | undefined => {
    const join = lastRefused(scene, (event) => membershipOf(event) === 'join');
    const user = scene.server.users.find((one) => one === join?.stateKey);
    return join === undefined || user === undefined ? undefined : citing(scene, say(scene, user), join);
  },
} satisfies Record<string, (scene: Scene) => Act | undefined>;

function powerless(scene: Scene) {
  const isPowerless = (user: UserId): boolean => membership(scene, user) === 'join' && !hasPower(scene, user);
  return { users: scene.server.users, isPowerless };
}

function authOf({ world, state }: Scene, act: Act) {
  return world.truth.authEventsFor({ ...act, stateKey: act.stateKey }, state);
}

function typeOf({ world }: Scene, eventId: Parameters<typeof world.truth.event>[0]): string {
  return world.truth.event(eventId).type;
}

/** The act, which cites this of its sender in the place of what he is. */
function citing(scene: Scene, act: Act, proof: Pdu): Act {
  const others = authOf(scene, act).filter((id) => scene.world.truth.event(id).stateKey !== proof.stateKey);
  return { ...act, auth: [...others, proof.eventId] };
}

function lastRefused({ world }: Scene, is: (event: Pdu) => boolean): Pdu | undefined {
  return [...world.events.values()].findLast((event) => is(event) && world.truth.isRejected(event.eventId));
}

function membershipOf({ type, content }: Pdu): unknown {
  return type === 'm.room.member' ? content['membership'] : undefined;
}
