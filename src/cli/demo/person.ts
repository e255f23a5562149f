/**
 * Somebody at a Matrix client: a client library that is not ours, as an application would use it, over our client API. It is the one that
 * Element stands on, so what it shows is what people see.
 */
import loglevel from 'loglevel';
import { ClientEvent, type MatrixClient, type MatrixEvent, MsgType, RoomEvent, createClient } from 'matrix-js-sdk';
import { type Logger } from 'matrix-js-sdk/lib/logger.js';
import { type EventId, type UserId } from '../../matrix/identifiers.ts';
import { invariant } from '../../invariant.ts';

const PASSWORD = 'of a demo';
/** The library waits so long for news. */
const POLL_MS = 10_000;

const SILENT: Logger = {
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  getChild: () => SILENT,
};

export interface Person {
  readonly userId: UserId;
  /** Says something as soon as the client shows the room. */
  say(roomId: string, body: string): Promise<EventId>;
  /** Resolves when the client shows the event. */
  shown(roomId: string, eventId: EventId): Promise<{ readonly sender: string; readonly body: string }>;
  leave(): void;
}

/** Registers at a server that lets everybody in, logs in, and keeps up with it. `url`: of its client API. */
export async function atClient(url: string, name: string): Promise<Person> {
  const stranger = createClient({ baseUrl: url, logger: SILENT });
  const auth = { type: 'm.login.dummy' };
  await stranger.registerRequest({ username: name, password: PASSWORD, auth, inhibit_login: true });
  const identifier = { type: 'm.id.user', user: name };
  const login = await stranger.loginRequest({ type: 'm.login.password', identifier, password: PASSWORD });
  const client = createClient({
    ...{ baseUrl: url, logger: SILENT, userId: login.user_id, deviceId: login.device_id },
    accessToken: login.access_token,
  });
  // Some of its parts know no logger but their own, which write to the console.
  for (const logger of Object.values(loglevel.getLoggers())) logger.setLevel('silent', false);
  await client.startClient({ lazyLoadMembers: true, pollTimeout: POLL_MS });
  return {
    userId: login.user_id as UserId,
    say: async (roomId, body) => {
      await roomShown(client, roomId);
      const { event_id: eventId } = await client.sendMessage(roomId, { msgtype: MsgType.Text, body });
      return eventId as EventId;
    },
    shown: async (roomId, eventId) => {
      const event = await eventShown(client, roomId, eventId);
      return { sender: event.getSender() ?? '', body: String(event.getContent()['body']) };
    },
    leave: () => client.stopClient(),
  };
}

function roomShown(client: MatrixClient, roomId: string): Promise<void> {
  if (client.getRoom(roomId) !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const onRoom = (room: { readonly roomId: string }): void => {
      if (room.roomId !== roomId) return;
      client.off(ClientEvent.Room, onRoom);
      resolve();
    };
    client.on(ClientEvent.Room, onRoom);
  });
}

function eventShown(client: MatrixClient, roomId: string, eventId: string): Promise<MatrixEvent> {
  const room = client.getRoom(roomId);
  invariant(room !== null, 'the room was shown before');
  const known = room.findEventById(eventId);
  if (known !== undefined) return Promise.resolve(known);
  return new Promise((resolve) => {
    const onEvent = (event: MatrixEvent): void => {
      if (event.getId() !== eventId) return;
      room.off(RoomEvent.Timeline, onEvent);
      resolve(event);
    };
    room.on(RoomEvent.Timeline, onEvent);
  });
}
