/**
 * Entering and leaving rooms through a resident: the template of the membership event, and the event itself.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#joining-rooms and
 * https://spec.matrix.org/v1.16/server-server-api/#leaving-rooms-rejecting-invites
 */
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type FederationClient, type SendJoinHeader, type StreamSummary, type TemplateAnswer } from './contract.ts';
import { FederationError } from './error.ts';
import { type Requests, malformed, path } from './requests.ts';
import { readSmall, readStrings } from './small-values.ts';

type MembershipRequests = Pick<
  FederationClient,
  | 'makeJoin'
  | 'sendJoin'
  | 'makeLeave'
  | 'sendLeave'
  | 'makeKnock'
  | 'sendKnock'
  | 'sendInvite'
  | 'exchangeThirdPartyInvite'
>;

/** Room versions that the first version of the endpoint for invites knows. */
const VERSIONS_OF_INVITE_V1: ReadonlySet<string> = new Set(['1', '2']);

/** The requests of the client that enter and leave rooms. */
export function membershipRequests(requests: Requests): MembershipRequests {
  const { limits, timeouts } = requests;
  return {
    async makeJoin(destination, roomId, userId, versions, options) {
      const uri = path`/_matrix/federation/v1/make_join/${roomId}/${userId}` + offering(versions);
      return readTemplate(destination, await requests.json(destination, { uri }, options));
    },

    async makeKnock(destination, roomId, userId, versions, options) {
      const uri = path`/_matrix/federation/v1/make_knock/${roomId}/${userId}` + offering(versions);
      return readTemplate(destination, await requests.json(destination, { uri }, options));
    },

    async sendKnock(destination, roomId, eventId, event, options) {
      const uri = path`/_matrix/federation/v1/send_knock/${roomId}/${eventId}`;
      const answer = await requests.json(destination, { method: 'PUT', uri, content: event }, options);
      return answer['knock_room_state'];
    },

    async sendInvite(destination, roomId, eventId, { roomVersion, event, inviteRoomState }, options) {
      const put = async (uri: string, content: JsonObject, isPair: boolean): Promise<JsonObject> => {
        const answer = await requests.json(destination, { method: 'PUT', uri, content, isPair }, options);
        if (!isJsonObject(answer['event'])) throw malformed(destination, 'event is not an object');
        return answer['event'];
      };
      try {
        const content = { room_version: roomVersion, event, invite_room_state: inviteRoomState };
        return await put(path`/_matrix/federation/v2/invite/${roomId}/${eventId}`, content, false);
      } catch (error) {
        if (!isUnknownEndpoint(error) || !VERSIONS_OF_INVITE_V1.has(roomVersion)) throw error;
        const content = { ...event, unsigned: { invite_room_state: inviteRoomState } };
        return put(path`/_matrix/federation/v1/invite/${roomId}/${eventId}`, content, true);
      }
    },

    exchangeThirdPartyInvite: (destination, roomId, content, options) =>
      requests.done(
        destination,
        { method: 'PUT', uri: path`/_matrix/federation/v1/exchange_third_party_invite/${roomId}`, content },
        options,
      ),

    async sendJoin(destination, roomId, eventId, event, options) {
      const uri = path`/_matrix/federation/v2/send_join/${roomId}/${eventId}` + `?omit_members=${options.omitMembers}`;
      const ask = { method: 'PUT', uri, content: event, timeoutMs: timeouts.joinMs } as const;
      const body = { arrays: ['state', 'auth_chain'] as const, bytesMax: limits.stateBytesMax };
      const answer = await requests.events(destination, ask, options, body);
      return {
        [Symbol.asyncIterator]: () => answer[Symbol.asyncIterator](),
        summary: () => answer.summary(),
        header: () => readSendJoinHeader(destination, answer.summary()),
      };
    },

    async makeLeave(destination, roomId, userId, options) {
      const uri = path`/_matrix/federation/v1/make_leave/${roomId}/${userId}`;
      return readTemplate(destination, await requests.json(destination, { uri }, options));
    },

    async sendLeave(destination, roomId, eventId, event, options) {
      const put = (uri: string): Promise<void> =>
        requests.done(destination, { method: 'PUT', uri, content: event }, options);
      try {
        await put(path`/_matrix/federation/v2/send_leave/${roomId}/${eventId}`);
      } catch (error) {
        if (!isUnknownEndpoint(error)) throw error;
        // The first was not understood, so the event has not been sent yet. Both answers hold nothing but that it was taken.
        await put(path`/_matrix/federation/v1/send_leave/${roomId}/${eventId}`);
      }
    },
  };
}

function offering(versions: readonly string[]): string {
  return `?${versions.map((version) => `ver=${encodeURIComponent(version)}`).join('&')}`;
}

/**
 * Whether a server does not have the endpoint, as opposed to the room. Old servers answer 404 without an errcode, or 400:
 * https://spec.matrix.org/v1.16/client-server-api/#common-error-codes
 */
function isUnknownEndpoint(error: unknown): boolean {
  if (!(error instanceof FederationError)) return false;
  const { status, errcode } = error;
  return errcode === undefined ? status === 404 || status === 405 : errcode === 'M_UNRECOGNIZED';
}

function readTemplate(destination: ServerName, answer: JsonObject): TemplateAnswer {
  // Absent means version 1, from before rooms had versions.
  const roomVersion = answer['room_version'] ?? '1';
  const event = answer['event'];
  if (typeof roomVersion !== 'string') throw malformed(destination, 'room_version is not a string');
  if (!isJsonObject(event)) throw malformed(destination, 'event is not an object');
  return { roomVersion, event };
}

function readSendJoinHeader(destination: ServerName, { rest }: StreamSummary): SendJoinHeader {
  const [omitted, servers] = [rest.get('members_omitted'), rest.get('servers_in_room')];
  const membersOmitted = omitted && readSmall(omitted);
  if (omitted !== undefined && membersOmitted === undefined) {
    throw malformed(destination, 'members_omitted is no boolean');
  }
  const serversInRoom = servers && readStrings(servers);
  return { membersOmitted, serversInRoom, event: rest.get('event') };
}
