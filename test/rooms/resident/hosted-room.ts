/** A room that a Rejoinder over a real database hosts, and another server that speaks to it as a resident, by function calls. */
import { type RoomWish } from '../../../src/matrix/client/first-events.ts';
import { type EventId, type RoomId, type ServerName, type UserId, domainOf } from '../../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { eventIdOf } from '../../../src/matrix/signing/hashes.ts';
import { signEvent } from '../../../src/matrix/signing/signatures.ts';
import { type OwnChange, type SentMembership } from '../../../src/rooms/resident-contract.ts';
import { residentMemberships } from '../../../src/rooms/resident/memberships.ts';
import { createRoom } from '../../../src/rooms/send/create-room.ts';
import { seededRandom } from '../../../src/simulator/seeded-random.ts';
import { keyOf, rulesOf } from '../../matrix/sample-event.ts';
import { A, ME, honestScript, smallRoom, startScripted } from '../../support/scripted-room.ts';

export const CAROL = `@carol:${A}` as UserId;
export const signal = new AbortController().signal;

export type HostedRoom = Awaited<ReturnType<typeof hostRoom>>;

/** Starts a server with a public room of its own; `wish`: what is otherwise. */
export async function hostRoom(version = '11', wish: Partial<RoomWish> = {}) {
  const small = smallRoom();
  const here = await startScripted(small.room, honestScript(small));
  const random = seededRandom(7, 'ids');
  const context = { ...here.context, random: () => random.fraction() };
  const rules = rulesOf(version);
  const host = (changes: Partial<RoomWish> = {}): Promise<RoomId> =>
    createRoom(context, {
      ...{ creator: ME, profile: {}, preset: 'public_chat', creationContent: {}, powerLevelOverride: {} },
      ...{ initialState: [], name: 'Hosted', topic: undefined, alias: undefined, invite: [], isDirect: false },
      ...{ roomVersion: version, ...changes },
    });
  const roomId = await host(wish);
  const memberships = residentMemberships(context);
  const template = (change: OwnChange, userId: UserId = CAROL, ofRoom: RoomId = roomId) =>
    memberships.template({ change, roomId: ofRoom, userId, server: domainOf(userId), versions: [version] });
  /** What the user's server makes of a template. */
  const complete = (event: JsonObject, changes: JsonObject = {}, server: ServerName = A): JsonObject => {
    const given = rules.eventIdFormat === 'given' ? { event_id: `$made${random.fraction()}:${server}` } : {};
    return signEvent({ ...event, ...given, ...changes }, rules, server, keyOf(server));
  };
  const idOf = (event: JsonObject): EventId => eventIdOf(event, rules);
  const sent = (change: OwnChange, event: JsonObject, changes: Partial<SentMembership> = {}): SentMembership => ({
    ...{ change, roomId, eventId: idOf(event), server: A, raw: Buffer.from(JSON.stringify(event)), signal, ...changes },
  });
  const join = async (userId: UserId = CAROL, omitMembers = true, ofRoom: RoomId = roomId) => {
    const server = domainOf(userId);
    const event = complete((await template('join', userId, ofRoom)).event, {}, server);
    const sentJoin = { ...sent('join', event, { server, roomId: ofRoom }), omitMembers };
    return { event, eventId: idOf(event), sentJoin, answer: await memberships.sendJoin(sentJoin) };
  };
  return { ...here, context, rules, roomId, host, memberships, template, complete, idOf, sent, join };
}

/** All events of an answer's array. */
export async function read(pages: AsyncIterable<readonly string[]>): Promise<JsonObject[]> {
  const events: JsonObject[] = [];
  for await (const page of pages) events.push(...page.map((text) => JSON.parse(text) as JsonObject));
  return events;
}
