/** Acts that a rule forbids, whatever the room's state is, or nearly so: one kind a rule, by the rule's name. */
import { type EventId, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { signJson } from '../../src/matrix/signing/signatures.ts';
import { keyOf } from '../matrix/sample-event.ts';
import { IDENTITY_SERVER, type Scene, banned, contentAt, joined, member, outsider, say } from './acts.ts';
import { type Act } from './world.ts';

type Mischief = (scene: Scene) => Act | undefined;

const KINDS: readonly Mischief[] = [
  // auth-event-duplicate
  (scene) => joined(scene, (sender) => citing(scene, say(scene, sender), eventsOf(scene, 'm.room.member', sender))),
  // auth-event-unexpected
  (scene) => joined(scene, (sender) => citing(scene, say(scene, sender), eventsOf(scene, 'm.room.topic', ''))),
  // auth-events-lack-create
  (scene) =>
    joined(scene, (sender) => {
      const act = say(scene, sender);
      return { ...act, auth: authOf(scene, act).filter((id) => id !== scene.world.create) };
    }),
  // join-for-another
  (scene) => joined(scene, (sender) => outsider(scene, (user) => member(sender, user, 'join'))),
  // member-malformed
  (scene) => joined(scene, (sender) => ({ ...member(sender, sender, 'join'), content: { displayname: 'nothing' } })),
  // invite-target-joined
  (scene) => joined(scene, (sender) => joined(scene, (user) => member(sender, user, 'invite'), true)),
  // leave-not-in-room
  (scene) => outsider(scene, (user) => member(user, user, 'leave')),
  // unban-power
  (scene) => joined(scene, (sender) => banned(scene, (user) => member(sender, user, 'leave'))),
  // knock-already-in, knock-for-another, knock-banned
  (scene) => joined(scene, (user) => member(user, user, 'knock')),
  (scene) => joined(scene, (sender) => outsider(scene, (user) => member(sender, user, 'knock'))),
  (scene) => banned(scene, (user) => member(user, user, 'knock')),
  // third-party-invite-power
  (scene) =>
    joined(scene, (sender) => {
      const { publicKey } = keyOf(IDENTITY_SERVER);
      return { sender, type: 'm.room.third_party_invite', stateKey: 'odd', content: { public_key: publicKey } };
    }),
  // state-key-other-user
  (scene) =>
    joined(scene, (sender) =>
      joined(scene, (user) => ({ sender, type: 'org.example.note', stateKey: user, content: {} }), true),
    ),
  // power-levels-unreadable, power-levels-malformed
  (scene) => joined(scene, (sender) => levels(scene, sender, { users: { [sender]: 'high' } })),
  // power-levels-name-creator
  (scene) => joined(scene, (sender) => levels(scene, sender, { users: { [scene.world.users[0]!]: 100 } })),
  // aliases-state-key
  (scene) =>
    joined(scene, (sender) => ({
      sender,
      type: 'm.room.aliases',
      stateKey: 'elsewhere.sim',
      content: { aliases: [] },
    })),
  // redaction-power
  (scene) =>
    joined(scene, (sender) => ({ ...say(scene, sender), type: 'm.room.redaction', redacts: '$another:elsewhere.sim' })),
  // join-not-authorised
  (scene) =>
    outsider(scene, (user) =>
      joined(scene, (other) => member(user, user, 'join', { join_authorised_via_users_server: other }), true),
    ),
  (scene) => outsider(scene, (user) => member(user, user, 'join')),
  // invite-third-party-token, invite-third-party-sender, invite-third-party-signature, invite-third-party-malformed
  (scene) => thirdParty(scene, 'token9', 'identity.sim'),
  (scene) => thirdParty(scene, `token${scene.random.integer(3)}`, 'identity.sim'),
  (scene) => thirdParty(scene, `token${scene.random.integer(3)}`, 'other.sim'),
  (scene) =>
    joined(scene, (sender) =>
      member(sender, scene.random.pick(scene.world.users), 'invite', { third_party_invite: {} }),
    ),
];

/** What nobody may do. */
export function mischief(scene: Scene): Act | undefined {
  return scene.random.pick(KINDS)(scene);
}

function authOf({ world, state }: Scene, act: Act): EventId[] {
  return world.truth.authEventsFor({ ...act, stateKey: act.stateKey }, state);
}

/** The act, which cites one of these besides what it has to. */
function citing(scene: Scene, act: Act, among: readonly EventId[]): Act | undefined {
  const auth = authOf(scene, act);
  const others = among.filter((id) => !auth.includes(id));
  return others.length === 0 ? undefined : { ...act, auth: [...auth, scene.random.pick(others)] };
}

function eventsOf({ world }: Scene, type: string, stateKey: string): EventId[] {
  return [...world.events.values()]
    .filter((event) => event.type === type && event.stateKey === stateKey)
    .map(({ eventId }) => eventId);
}

function levels(scene: Scene, sender: UserId, more: JsonObject): Act {
  const content = { ...contentAt(scene, 'm.room.power_levels'), ...more };
  return { sender, type: 'm.room.power_levels', stateKey: '', content };
}

/** An invite by a token, by anybody, signed by the key of somebody. */
function thirdParty(scene: Scene, token: string, signer: string): Act | undefined {
  const { world, random } = scene;
  return joined(scene, (sender) => {
    const mxid = random.pick(world.users);
    const signed = signJson({ mxid, token }, IDENTITY_SERVER, keyOf(signer));
    return member(sender, mxid, 'invite', { third_party_invite: { signed } });
  });
}
