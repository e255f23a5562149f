/** A stored room of many members for `bench:resolve`, the same each time. Its events are well formed; nobody signed them. */
import { type EventId, type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { type RoomVersionRules, roomVersionRules } from '../../src/matrix/room-versions.ts';
import { insertPdus, recordOutlierVerdicts } from '../../src/store/events/pdus.ts';
import { type Store } from '../../src/store/open-store.ts';
import { type CheckedPdu } from '../../src/verification/contract.ts';

const VERSION = '10';
const SERVERS = 500;
const STORED_AT_ONCE = 2_000;
/** Members who take part in a conversation, and how many events there are from one joining of branches to the next. */
const SPEAKERS = 500;
const BRANCH_EVERY = 50;
/** As of 70 % of the members of an old room: their membership cites one before it. */
const RENAMED_SHARE = 0.7;

interface Draft {
  readonly type: string;
  readonly sender: string;
  readonly stateKey?: string;
  readonly content: JsonObject;
  readonly auth: readonly Made[];
  /** Absent: the event made last. */
  readonly prev?: readonly EventId[];
}

/** An event with its depth in the graph of auth events. */
interface Made {
  readonly pdu: Pdu;
  readonly authDepth: number;
}

export class BigRoom {
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  readonly #size: number;
  readonly #create: Made;
  readonly #creator: Made;
  readonly #power: Made;
  readonly #open: Made;
  readonly #members: { readonly now: Made; readonly unstored: readonly Made[] }[];
  #serial = 0;
  #renamed = 0;

  constructor(members: number) {
    const rules = roomVersionRules(VERSION);
    if (rules === undefined) throw new Error(`room version ${VERSION} is one of ours`);
    this.rules = rules;
    this.#size = members;
    this.roomId = `!room${String(members)}:bench.test` as RoomId;
    const sender = '@creator:bench.test';
    this.#create = this.#make({
      ...{ type: 'm.room.create', sender, stateKey: '', auth: [] },
      content: { creator: sender, room_version: VERSION },
    });
    this.#creator = this.#member(sender, {}, [this.#create]);
    this.#power = this.#make({
      ...{ type: 'm.room.power_levels', sender, stateKey: '', auth: [this.#create, this.#creator] },
      content: { users: { [sender]: 100, [userName(1)]: 50 } },
    });
    this.#open = this.#make({
      ...{ type: 'm.room.join_rules', sender, stateKey: '', auth: [this.#create, this.#creator, this.#power] },
      content: { join_rule: 'public' },
    });
    this.#members = Array.from({ length: members }, (_, i) => {
      const joined = this.#member(userName(i), {}, this.#base);
      if ((i % 10) / 10 >= RENAMED_SHARE) return { now: joined, unstored: [joined] };
      const now = this.#member(userName(i), { displayname: 'a name' }, [...this.#base, joined]);
      return { now, unstored: [joined, now] };
    });
  }

  get #base(): Made[] {
    return [this.#create, this.#power, this.#open];
  }

  /** The state that a resident gives without memberships. */
  get founding(): EventId[] {
    return [this.#create, this.#creator, this.#power, this.#open].map(({ pdu }) => pdu.eventId);
  }

  /** Stores the room; gives the events of its state. */
  async store(store: Store): Promise<EventId[]> {
    await this.#save(store, [this.#create, this.#creator, this.#power, this.#open]);
    await this.#save(
      store,
      this.#members.flatMap(({ unstored }) => unstored),
    );
    return [...this.founding, ...this.#members.map(({ now }) => now.pdu.eventId)];
  }

  /** Members who change their name, each another. */
  async renames(store: Store, count: number): Promise<EventId[]> {
    const events: Made[] = [];
    for (let i = 0; i < count; i++) events.push(this.#rename(this.#at(10 + this.#renamed++ * 7)));
    return this.#save(store, events);
  }

  /** One member's many names, each citing the one before, and another that cites the first. */
  async chain(store: Store, length: number): Promise<{ last: EventId; fork: EventId }> {
    const first = this.#at(2);
    const names = [first];
    for (let i = 0; i < length; i++) names.push(this.#rename(names.at(-1) ?? first));
    const [fork] = await this.#save(store, [this.#rename(first)]);
    const last = (await this.#save(store, names.slice(1))).at(-1);
    if (fork === undefined || last === undefined) throw new Error('events were stored');
    return { last, fork };
  }

  /** Two topics of one who was renamed on two branches: under the name that stands, and under the one that was lost. */
  async lostMembership(store: Store): Promise<{ standing: EventId; topics: EventId[] }> {
    const sender = userName(1);
    const [lost, standing] = [this.#rename(this.#at(1)), this.#rename(this.#at(1))];
    const topics = [lost, standing].map((by) =>
      this.#make({
        ...{ type: 'm.room.topic', sender, stateKey: '', content: { topic: 'a topic' } },
        auth: [this.#create, this.#power, by],
      }),
    );
    await this.#save(store, [lost, standing, ...topics]);
    return { standing: standing.pdu.eventId, topics: topics.map(({ pdu }) => pdu.eventId) };
  }

  /** Messages of half as many members, with their auth events. */
  messages(count: number): { event: Pdu; authEvents: Pdu[] }[] {
    return Array.from({ length: count }, (_, i) => {
      const by = this.#at(i % (count / 2));
      const auth = [this.#create, this.#power, by];
      const message = { type: 'm.room.message', sender: by.pdu.sender, content: { body: 'hello' }, auth };
      return { event: this.#make(message).pdu, authEvents: auth.map(({ pdu }) => pdu) };
    });
  }

  /** The event made last. */
  get last(): EventId {
    return this.#idOf(this.#serial);
  }

  /**
   * What is said and done after our join, stored and not judged: `count` events, each after the one before, a third of them changes of
   * names. Half of the messages are those of one member, the first of `members`. Every 50th event joins two branches.
   */
  async conversation(
    store: Store,
    joinedBy: { readonly user: string; readonly prev: EventId },
    count: number,
  ): Promise<{ readonly join: EventId; readonly said: readonly EventId[]; readonly busiest: EventId }> {
    const { user, prev } = joinedBy;
    const content = { membership: 'join' };
    const join = this.#make({
      type: 'm.room.member',
      sender: user,
      stateKey: user,
      content,
      auth: this.#base,
      prev: [prev],
    });
    const made: Made[] = [];
    const now = new Map<number, Made>();
    let tips = [join.pdu.eventId];
    for (let i = 0; i < count; i++) {
      const speaker = i % 2 === 0 ? 0 : 1 + ((i * 7) % (SPEAKERS - 1));
      const place = BRANCH_EVERY - (i % BRANCH_EVERY);
      // Two changes side by side; what comes next stands on both.
      const prev = place === 1 ? (made.at(-1)?.pdu.prevEvents ?? tips) : tips;
      const isRename = i % 3 === 1 || place <= 2;
      const who = isRename ? 1 + (i % (SPEAKERS - 1)) : speaker;
      const by = now.get(who) ?? this.#at(who);
      const event = isRename ? this.#rename(by, prev) : this.#say(by, prev);
      if (isRename) now.set(who, event);
      tips = place === 1 ? [...tips, event.pdu.eventId] : [event.pdu.eventId];
      made.push(event);
    }
    for (let start = 0; start < made.length; start += STORED_AT_ONCE) {
      const some = made.slice(start, start + STORED_AT_ONCE);
      await insertPdus(
        store,
        some.map(({ pdu }) => asStored(pdu)),
      );
    }
    await insertPdus(store, [asStored(join.pdu)]);
    return { join: join.pdu.eventId, said: made.map(({ pdu }) => pdu.eventId), busiest: this.#at(0).pdu.eventId };
  }

  #say(by: Made, prev: readonly EventId[]): Made {
    const auth = [this.#create, this.#power, by];
    return this.#make({ type: 'm.room.message', sender: by.pdu.sender, content: { body: 'hello' }, auth, prev });
  }

  #idOf(serial: number): EventId {
    return `$${`${String(this.#size)}e${String(serial)}`.padStart(43, 'e')}` as EventId;
  }

  #at(member: number): Made {
    const found = this.#members[member];
    if (found === undefined) throw new Error(`there are fewer members than ${String(member)}`);
    return found.now;
  }

  #rename(before: Made, prev?: readonly EventId[]): Made {
    const profile = { displayname: `name ${String(this.#serial)}` };
    return this.#member(before.pdu.sender, profile, [...this.#base, before], prev);
  }

  #member(user: string, profile: JsonObject, auth: readonly Made[], prev?: readonly EventId[]): Made {
    const content = { membership: 'join', avatar_url: `mxc://${user.slice(1)}/avatar`, ...profile };
    const draft = { type: 'm.room.member', sender: user, stateKey: user, content, auth };
    return this.#make(prev === undefined ? draft : { ...draft, prev });
  }

  #make({ type, sender, stateKey, content, auth, prev }: Draft): Made {
    const serial = (this.#serial += 1);
    const eventId = this.#idOf(serial);
    const authEvents = auth.map(({ pdu }) => pdu.eventId);
    const prevEvents = prev ?? (serial === 1 ? [] : [this.#idOf(serial - 1)]);
    const json: JsonObject = {
      ...{ type, sender, content, room_id: this.roomId, depth: serial, origin_server_ts: 1_700_000_000_000 + serial },
      ...{ auth_events: authEvents, prev_events: prevEvents, hashes: { sha256: 'A'.repeat(43) } },
      ...(stateKey !== undefined && { state_key: stateKey }),
      signatures: { [sender.slice(sender.indexOf(':') + 1)]: { 'ed25519:a': 'A'.repeat(86) } },
    };
    const pdu = {
      ...{ eventId, roomId: this.roomId, type, stateKey, sender: sender as UserId, content, prevEvents, authEvents },
      ...{ depth: BigInt(serial), originServerTs: 1_700_000_000_000 + serial, json },
    };
    return { pdu, authDepth: auth.reduce((depth, cited) => Math.max(depth, cited.authDepth + 1), 0) };
  }

  async #save(store: Store, events: readonly Made[]): Promise<EventId[]> {
    for (let start = 0; start < events.length; start += STORED_AT_ONCE) {
      const some = events.slice(start, start + STORED_AT_ONCE);
      await insertPdus(
        store,
        some.map(({ pdu }) => asStored(pdu)),
      );
      const verdicts = some.map(({ pdu: { eventId }, authDepth }) => ({
        ...{ eventId, authDepth },
        verdict: 'accepted' as const,
      }));
      await recordOutlierVerdicts(store, this.roomId, verdicts);
    }
    return events.map(({ pdu }) => pdu.eventId);
  }
}

function userName(i: number): string {
  return `@user${String(i)}:server${String(i % SERVERS)}.example.org`;
}

function asStored(pdu: Pdu): CheckedPdu {
  return {
    ...pdu,
    ...{ json: Buffer.from(JSON.stringify(pdu.json)), stateKey: pdu.stateKey ?? null, hollow: false },
    membership: pdu.type === 'm.room.member' ? 'join' : null,
  };
}
