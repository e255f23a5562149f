/** A user of a homeserver, through the client-server API: what the demo and the interop tests do and ask at Synapse. */

type Json = Record<string, unknown>;

/** A state event as the client-server API shows it. */
export interface ClientStateEvent {
  readonly event_id: string;
  readonly type: string;
  readonly state_key: string;
  readonly sender: string;
  readonly content: Json;
}

/** A membership and the event that made it. */
export interface Membership {
  readonly eventId: string;
  readonly membership: string;
}

/** A request was refused. */
class ClientApiError extends Error {
  override readonly name = 'ClientApiError';
  readonly status: number;
  readonly errcode: string | undefined;

  constructor(what: string, status: number, body: string) {
    super(`${what}: ${status} ${body.slice(0, 300)}`);
    this.status = status;
    this.errcode = /"errcode"\s*:\s*"([^"]*)"/.exec(body)?.[1];
  }
}

export class SynapseUser {
  readonly userId: string;
  readonly accessToken: string;
  readonly #url: string;
  #transactions = 0;

  constructor(clientUrl: string, userId: string, accessToken: string) {
    this.#url = clientUrl;
    this.userId = userId;
    this.accessToken = accessToken;
  }

  async #request(method: 'GET' | 'POST' | 'PUT', path: string, body?: Json): Promise<unknown> {
    const response = await fetch(`${this.#url}${path}`, {
      method,
      headers: {
        'content-type': 'application/json',
        ...(this.accessToken === '' ? {} : { authorization: `Bearer ${this.accessToken}` }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new ClientApiError(`${method} ${path}`, response.status, text);
    return JSON.parse(text);
  }

  /** Makes a request whose answer is an object; throws a `ClientApiError` unless it succeeds. */
  async call(method: 'GET' | 'POST' | 'PUT', path: string, body?: Json): Promise<Json> {
    return (await this.#request(method, path, body)) as Json;
  }

  #room(roomId: string, rest: string): string {
    return `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/${rest}`;
  }

  async createRoom(request: Json): Promise<string> {
    return String((await this.call('POST', '/_matrix/client/v3/createRoom', request))['room_id']);
  }

  async join(roomIdOrAlias: string): Promise<void> {
    await this.call('POST', `/_matrix/client/v3/join/${encodeURIComponent(roomIdOrAlias)}`, {});
  }

  async leave(roomId: string): Promise<void> {
    await this.call('POST', this.#room(roomId, 'leave'), {});
  }

  async kick(roomId: string, userId: string): Promise<void> {
    await this.call('POST', this.#room(roomId, 'kick'), { user_id: userId, reason: 'kicked' });
  }

  async ban(roomId: string, userId: string): Promise<void> {
    await this.call('POST', this.#room(roomId, 'ban'), { user_id: userId, reason: 'banned' });
  }

  /** Sends a text message; answers its event id. */
  async sendMessage(roomId: string, text: string): Promise<string> {
    this.#transactions += 1;
    const path = this.#room(roomId, `send/m.room.message/${process.pid}.${this.#transactions}`);
    return String((await this.call('PUT', path, { msgtype: 'm.text', body: text }))['event_id']);
  }

  /** Sets a piece of state; answers its event id. */
  async sendState(roomId: string, type: string, stateKey: string, content: Json): Promise<string> {
    const path = this.#room(roomId, `state/${encodeURIComponent(type)}/${encodeURIComponent(stateKey)}`);
    return String((await this.call('PUT', path, content))['event_id']);
  }

  /** The room's current state, as the homeserver tells this user. */
  async state(roomId: string): Promise<readonly ClientStateEvent[]> {
    return (await this.#request('GET', this.#room(roomId, 'state'))) as ClientStateEvent[];
  }

  /** All memberships of the room's current state by user id: joined, left, banned, invited. */
  async members(roomId: string): Promise<ReadonlyMap<string, Membership>> {
    const events = (await this.state(roomId)).filter(({ type }) => type === 'm.room.member');
    return new Map(
      events.map(({ state_key: userId, event_id: eventId, content }) => [
        userId,
        { eventId, membership: String(content['membership']) },
      ]),
    );
  }
}
