/**
 * What people do in a simulated room: most of it what they may, some of it what they may not. Whether an act is let be is not
 * decided here; the room's rules say so.
 */
import { type UserId, domainOf, parseServerName } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { signJson } from '../../src/matrix/signing/signatures.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { type Random } from '../differential/random.ts';
import { keyOf } from '../matrix/sample-event.ts';
import { BESIDE_A_LEAVE } from './beside-a-leave.ts';
import { mischief } from './mischief.ts';
import { REFUSED_PROOFS } from './refused-proofs.ts';
import { type Act, type SimulatedServer, type World } from './world.ts';

export const IDENTITY_SERVER = parseServerName('identity.sim')!;

/** Where somebody acts. */
export interface Scene {
  readonly world: World;
  readonly server: SimulatedServer;
  readonly state: StateMap;
  readonly random: Random;
}

export function sceneAt(world: World, server: SimulatedServer, random: Random): Scene {
  return { world, server, state: world.stateAt(server), random };
}

export function contentAt({ world, state }: Scene, type: string, stateKey = ''): JsonObject {
  const id = state.get(stateMapKey(type, stateKey));
  return id === undefined ? {} : world.truth.event(id).content;
}

export function membership(scene: Scene, user: UserId): string {
  const is = contentAt(scene, 'm.room.member', user)['membership'];
  return typeof is === 'string' ? is : '';
}

export function member(
  sender: UserId,
  stateKey: UserId,
  kind: string,
  more: JsonObject = {},
): Act & { readonly stateKey: string } {
  return { sender, type: 'm.room.member', stateKey, content: { membership: kind, ...more } };
}

/** What an act is called, with how often it happens among others and how it is done; `undefined`: nobody can. */
type Kind = readonly [name: string, weight: number, act: (scene: Scene) => Act | undefined];

const CIVIL: readonly Kind[] = [
  ['message', 26, (scene) => joined(scene, (sender) => say(scene, sender))],
  ['topic', 8, (scene) => powerful(scene, (sender) => topic(scene, sender))],
  ['name', 4, (scene) => powerful(scene, (sender) => ({ ...topic(scene, sender), type: 'm.room.name' }))],
  ['profile', 4, (scene) => joined(scene, (sender) => member(sender, sender, 'join', { displayname: word(scene) }))],
  ['join', 9, (scene) => outsider(scene, (user) => join(scene, user))],
  ['leave', 4, (scene) => joined(scene, (sender) => member(sender, sender, 'leave'))],
  ['kick', 4, (scene) => powerful(scene, (sender) => joined(scene, (user) => member(sender, user, 'leave'), true))],
  ['ban', 4, (scene) => powerful(scene, (sender) => joined(scene, (user) => member(sender, user, 'ban'), true))],
  ['unban', 3, (scene) => powerful(scene, (sender) => banned(scene, (user) => member(sender, user, 'leave')))],
  ['invite', 5, (scene) => powerful(scene, (sender) => outsider(scene, (user) => member(sender, user, 'invite')))],
  ['knock', 2, (scene) => outsider(scene, (user) => member(user, user, 'knock'))],
  ['power-levels', 6, (scene) => powerful(scene, (sender) => powerLevels(scene, sender))],
  ['join-rules', 1, (scene) => powerful(scene, (sender) => joinRules(scene, sender))],
  ['third-party-invite', 2, (scene) => powerful(scene, (sender) => thirdPartyInvite(scene, sender))],
  ['accept-third-party-invite', 3, (scene) => acceptThirdPartyInvite(scene)],
  ['ghost', 9, (scene) => ghost(scene)],
  ['mischief', 7, (scene) => mischief(scene)],
  ['redaction', 1, (scene) => joined(scene, (sender) => ({ ...say(scene, sender), type: 'm.room.redaction' }))],
];

/** What a plan may want to be done, and not just something. */
const SPECIAL = {
  expel: (scene) => powerful(scene, (sender) => ours(scene, 'join', (user) => member(sender, user, 'leave'))),
  'let in': (scene) => powerful(scene, (sender) => ours(scene, 'leave', (user) => member(sender, user, 'invite'))),
  'ban us': (scene) => powerful(scene, (sender) => ours(scene, '', (user) => member(sender, user, 'ban'))),
  /** Under the limit as it is hashed, and far over it where every letter is written as an escape. */
  wide: (scene) =>
    joined(scene, (sender) => member(sender, sender, 'join', { displayname: '\u0436'.repeat(WIDE_LETTERS) })),
  foreign: (scene) => foreign(scene),
  'old key': (scene) => joined(scene, (sender) => ({ ...say(scene, sender), isSignedByOldKey: true })),
  'prev cycle': (scene) =>
    joined(scene, (sender) => ({
      ...(scene.random.chance(0.5) ? say(scene, sender) : topic(scene, sender)),
      circle: 'prev',
    })),
  'auth cycle': (scene) => powerful(scene, (sender) => ({ ...powerLevels(scene, sender), circle: 'auth' })),
  ...REFUSED_PROOFS,
  ...BESIDE_A_LEAVE,
} satisfies Record<string, (scene: Scene) => Act | undefined>;

export type SpecialAct = keyof typeof SPECIAL;

/** Whether anybody there can do it. */
export function canDo(scene: Scene, special: SpecialAct): boolean {
  return SPECIAL[special](scene) !== undefined;
}

/** Of six bytes each in an answer of ASCII, and of two as they are counted. */
const WIDE_LETTERS = 11_000;

/** Somebody does something, or just this if anybody can; gives what it is called. */
export function actOf(scene: Scene, special?: SpecialAct): { readonly name: string; readonly act: Act } {
  const wanted = special === undefined ? undefined : SPECIAL[special](scene);
  if (special !== undefined && wanted !== undefined) return { name: special, act: wanted };
  const { random } = scene;
  const kinds = CIVIL;
  for (let tries = 0; tries < 8; tries += 1) {
    let at = random.next() * kinds.reduce((sum, [, weight]) => sum + weight, 0);
    const [name, , make] = kinds.find(([, weight]) => (at -= weight) < 0) ?? kinds[0]!;
    const act = make(scene);
    if (act !== undefined) return { name, act };
  }
  const sender = scene.random.pick(scene.server.users);
  return { name: 'message', act: say(scene, sender) };
}

function word({ random }: Scene): string {
  return `w${random.integer(1_000)}`;
}

export function say(scene: Scene, sender: UserId): Act {
  return { sender, type: 'm.room.message', content: { body: word(scene) } };
}

function topic(scene: Scene, sender: UserId): Act {
  return { sender, type: 'm.room.topic', stateKey: '', content: { topic: word(scene), name: word(scene) } };
}

/** Users of the acting server, or of everywhere, who are what `is` says. */
export function one(
  scene: Scene,
  users: readonly UserId[],
  is: (user: UserId) => boolean,
  act: (user: UserId) => Act | undefined,
): Act | undefined {
  const found = users.filter(is);
  return found.length === 0 ? undefined : act(scene.random.pick(found));
}

export function joined(scene: Scene, act: (user: UserId) => Act | undefined, anywhere = false): Act | undefined {
  const users = anywhere ? scene.world.users : scene.server.users;
  return one(scene, users, (user) => membership(scene, user) === 'join', act);
}

export function outsider(scene: Scene, act: (user: UserId) => Act | undefined): Act | undefined {
  return one(scene, scene.server.users, (user) => membership(scene, user) !== 'join', act);
}

/** One of our users whose membership is `is`; a stranger's is empty. */
function ours(scene: Scene, is: string, act: (user: UserId) => Act | undefined): Act | undefined {
  return one(scene, scene.world.ourUsers, (user) => membership(scene, user) === is, act);
}

export function banned(scene: Scene, act: (user: UserId) => Act | undefined): Act | undefined {
  return one(scene, scene.world.users, (user) => membership(scene, user) === 'ban', act);
}

/** A joined user of the server who has some power; now and then one who has none. */
export function powerful(scene: Scene, act: (user: UserId) => Act | undefined): Act | undefined {
  const anybody = scene.random.chance(0.08);
  const is = (user: UserId): boolean => membership(scene, user) === 'join' && (anybody || hasPower(scene, user));
  return one(scene, scene.server.users, is, act);
}

/** Whoever made the room has, whatever its power levels say. */
export function hasPower(scene: Scene, user: UserId): boolean {
  const levels = contentAt(scene, 'm.room.power_levels')['users'] as JsonObject | undefined;
  return Number(levels?.[user] ?? 0) > 0 || user === scene.world.users[0];
}

/** Joins as the room's rule wants it: where it is restricted, by somebody who may invite. */
export function join(scene: Scene, user: UserId): Act {
  const { world } = scene;
  const rule = contentAt(scene, 'm.room.join_rules')['join_rule'];
  const isLetIn = ['invite', 'join'].includes(membership(scene, user));
  if (!world.rules.restrictedJoins || isLetIn || (rule !== 'restricted' && rule !== 'knock_restricted')) {
    return member(user, user, 'join');
  }
  const authoriser = joined(scene, (other) => member(other, other, 'join'), true)?.sender;
  return member(user, user, 'join', authoriser === undefined ? {} : { join_authorised_via_users_server: authoriser });
}

function powerLevels(scene: Scene, sender: UserId): Act {
  const { random, world } = scene;
  const old = contentAt(scene, 'm.room.power_levels');
  const users = new Map(Object.entries((old['users'] ?? {}) as JsonObject));
  users.set(random.pick(world.users), random.pick([0, 50, 50, 100]));
  if (world.rules.privilegedCreators) users.delete(world.users[0]!);
  const more: JsonObject = random.chance(0.3)
    ? { [random.pick(['events_default', 'invite', 'kick'])]: random.pick([0, 50]) }
    : {};
  return {
    sender,
    type: 'm.room.power_levels',
    stateKey: '',
    content: { ...old, ...more, users: Object.fromEntries(users) },
  };
}

function joinRules(scene: Scene, sender: UserId): Act {
  const rule = scene.random.pick(['public', 'public', 'public', 'invite', 'knock', 'restricted', 'knock_restricted']);
  return { sender, type: 'm.room.join_rules', stateKey: '', content: { join_rule: rule, allow: [] } };
}

function thirdPartyInvite(scene: Scene, sender: UserId): Act {
  const { publicKey } = keyOf(IDENTITY_SERVER);
  const token = `token${scene.random.integer(3)}`;
  return { sender, type: 'm.room.third_party_invite', stateKey: token, content: { public_key: publicKey } };
}

/** An invite by a token; its sender has to be who sent the token. */
function acceptThirdPartyInvite(scene: Scene): Act | undefined {
  const { world, random } = scene;
  const token = `token${random.integer(3)}`;
  const id = scene.state.get(stateMapKey('m.room.third_party_invite', token));
  if (id === undefined) return undefined;
  const { sender } = world.truth.event(id);
  if (domainOf(sender) !== scene.server.name) return undefined;
  const mxid = random.pick(world.users);
  const signed = signJson({ mxid, token }, IDENTITY_SERVER, keyOf(IDENTITY_SERVER));
  return member(sender, mxid, 'invite', { third_party_invite: { signed } });
}

/** Somebody who has left, or was thrown out, goes on as if he had not: he cites the membership that he once had. */
function ghost(scene: Scene): Act | undefined {
  return gone(scene, (sender) =>
    asIfJoined(scene, sender, () => (scene.random.chance(0.6) ? say(scene, sender) : topic(scene, sender))),
  );
}

/** A user of the server who has left, or was thrown out. */
export function gone(scene: Scene, act: (user: UserId) => Act | undefined): Act | undefined {
  return one(scene, scene.server.users, (user) => ['leave', 'ban'].includes(membership(scene, user)), act);
}

/** The act by the membership that its sender once had, in the place of the one he has. */
export function asIfJoined({ world, state }: Scene, sender: UserId, make: () => Act): Act | undefined {
  const once = [...world.events.values()].findLast(
    (event) => event.type === 'm.room.member' && event.stateKey === sender && event.content['membership'] === 'join',
  );
  if (once === undefined) return undefined;
  const act = make();
  const rest = world.truth
    .authEventsFor({ ...act, stateKey: act.stateKey }, state)
    .filter((id) => world.truth.event(id).stateKey !== sender);
  return { ...act, auth: [...rest, once.eventId] };
}

/** Somebody cites, beside what he has to, an event of another room. */
function foreign(scene: Scene): Act | undefined {
  const { world, state } = scene;
  return joined(scene, (sender) => {
    const act = say(scene, sender);
    const auth = world.truth.authEventsFor({ ...act, stateKey: undefined }, state);
    return { ...act, auth: [...auth, world.elsewhere] };
  });
}
