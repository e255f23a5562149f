/** Another server of a play: it sends in order until it is answered, takes a transaction once, and keeps what it was told of devices. */
import { type ListedDevices } from '../../src/devices/contract.ts';
import { type UserKeys } from '../../src/federation/contract.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { isJsonObject } from '../../src/matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { type ReceivedEdu } from '../../src/rooms/contract.ts';
import { describeDevices } from './devices-play.ts';

export class PlayedServer {
  readonly name: ServerName;
  /** Numbers of the messages that it was sent, those that it should have been sent, and those that it wrote. */
  readonly got: number[] = [];
  readonly expected: number[] = [];
  readonly written: number[] = [];
  /** Changes that it was told of once more, in another transaction. */
  readonly toldAgain: number[] = [];
  #toldUpTo = 0;
  /** It was told something that builds on what it was not told. */
  lacksDevices = false;
  readonly #seen = new Set<string>();
  readonly #user: string;
  #devices: JsonObject = {};
  #streamId = 1;
  #ours: { readonly devices: JsonObject; readonly streamId: number } = { devices: {}, streamId: 0 };
  #outbox: ReceivedEdu[] = [];
  /** The transactions that were answered already. */
  readonly #old: (readonly ReceivedEdu[])[] = [];

  constructor(name: ServerName) {
    this.name = name;
    this.#user = `@user:${name}`;
  }

  get knows(): readonly string[] {
    return describeDevices(this.#ours.devices);
  }

  /** It has asked us. */
  learn(listed: ListedDevices | undefined): void {
    this.#ours = { devices: Object.fromEntries(listed?.devices ?? []), streamId: listed?.streamId ?? 0 };
    this.lacksDevices = false;
  }

  write(messages: Readonly<Record<string, Readonly<Record<string, { readonly n: number }>>>>): void {
    const [byDevice = {}] = Object.values(messages);
    const [{ n } = { n: 0 }] = Object.values(byDevice);
    this.written.push(n);
    const content = { sender: this.#user, type: 'm.test', message_id: `m${n}`, messages };
    this.#outbox.push({ type: 'm.direct_to_device', content });
  }

  changeDevice(deviceId: string, isDeleted: boolean): void {
    const before = this.#streamId;
    this.#streamId += 1;
    const keys = { user_id: this.#user, device_id: deviceId, n: this.#streamId };
    const others = without(this.#devices, deviceId);
    this.#devices = isDeleted ? others : { ...others, [deviceId]: keys };
    const said = isDeleted ? { deleted: true } : { keys };
    const content = { user_id: this.#user, device_id: deviceId, stream_id: this.#streamId, prev_id: [before], ...said };
    this.#outbox.push({ type: 'm.device_list_update', content });
  }

  devicesOf(userId: string): UserKeys {
    const devices = userId === this.#user ? this.#devices : {};
    return { devices, streamId: this.#streamId, masterKey: undefined, selfSigningKey: undefined };
  }

  /** What it sends: what was answered last once more, so many times, and then what was not. */
  transactions(again: number): readonly (readonly ReceivedEdu[])[] {
    return [...this.#old.slice(this.#old.length - again), ...(this.#outbox.length === 0 ? [] : [[...this.#outbox]])];
  }

  /** It has its answer. */
  settle(edus: readonly ReceivedEdu[]): void {
    if (edus.some((edu) => this.#outbox.includes(edu))) this.#old.push(edus);
    this.#outbox = this.#outbox.filter((edu) => !edus.includes(edu));
  }

  take(txnId: string, content: JsonObject): void {
    if (this.#seen.has(txnId)) return;
    this.#seen.add(txnId);
    for (const edu of (content['edus'] ?? []) as readonly JsonObject[]) {
      const { edu_type: type, content: said } = edu;
      if (!isJsonObject(said)) throw new Error('an EDU without content');
      if (type === 'm.direct_to_device') this.got.push(numberIn(said));
      else if (type === 'm.device_list_update') this.#hear(said);
      else throw new Error(`nothing called for ${JSON.stringify(type)}`);
    }
  }

  #hear({ device_id: deviceId, stream_id: streamId, prev_id: before, keys, deleted }: JsonObject): void {
    if (typeof deviceId !== 'string' || typeof streamId !== 'number') throw new Error('an update of no device');
    if (streamId <= this.#toldUpTo) this.toldAgain.push(streamId);
    this.#toldUpTo = Math.max(this.#toldUpTo, streamId);
    if (streamId <= this.#ours.streamId) return;
    const isNext = Array.isArray(before) && (before as readonly Json[]).includes(this.#ours.streamId);
    if (!isNext) {
      this.lacksDevices = true;
      return;
    }
    const others = without(this.#ours.devices, deviceId);
    this.#ours = { devices: deleted === true ? others : { ...others, [deviceId]: keys as Json }, streamId };
  }
}

function without(devices: JsonObject, deviceId: string): JsonObject {
  return Object.fromEntries(Object.entries(devices).filter(([name]) => name !== deviceId));
}

function numberIn({ messages }: JsonObject): number {
  const [byDevice] = Object.values(
    messages as Readonly<Record<string, Readonly<Record<string, { readonly n: number }>>>>,
  );
  return Object.values(byDevice ?? {})[0]?.n ?? 0;
}
