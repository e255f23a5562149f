import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { rumaFixtures } from '../../scripts/fetch-ruma-fixtures.ts';
import { type EventId, type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { inspectResolve } from '../../src/inspect/inspect-resolve.ts';
import { type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { type RoomVersionRules, roomVersionRules } from '../../src/matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { resolveState } from '../../src/matrix/state-resolution/state-resolution.ts';

/** Batches of events, each written with those before it in mind; the snapshot has the same name. */
const BATCHES: Readonly<Record<string, readonly string[]>> = {
  minimal_private_chat: ['bootstrap-private-chat'],
  minimal_public_chat: ['bootstrap-public-chat'],
  origin_server_ts_tiebreak: ['bootstrap-private-chat', 'origin-server-ts-tiebreak'],
  ban_vs_power_levels: ['bootstrap-public-chat', 'ban-vs-power-levels-alice', 'ban-vs-power-levels-bob'],
  topic_vs_power_levels: ['bootstrap-public-chat', 'topic-vs-power-levels-alice', 'topic-vs-power-levels-bob'],
  power_levels_admin_vs_mod: [
    'bootstrap-public-chat',
    'power-levels-admin-vs-mod-alice',
    'power-levels-admin-vs-mod-bob',
  ],
  topic_vs_ban: ['bootstrap-public-chat', 'topic-vs-ban-common', 'topic-vs-ban-alice', 'topic-vs-ban-bob'],
  join_rules_vs_join: [
    'bootstrap-public-chat',
    'join-rules-vs-join-common',
    'join-rules-vs-join-alice',
    'join-rules-vs-join-ella',
  ],
  concurrent_joins: ['bootstrap-public-chat', 'concurrent-joins-charlie', 'concurrent-joins-ella'],
};

/** The examples of MSC4297: states of two servers, by the algorithm of version 11 and of version 12. */
const STATE_MAPS: Readonly<Record<string, { events: string; states: readonly string[] }>> = {
  msc4297_problem_a_state_res_v2_0: {
    events: 'MSC4297-problem-A/pdus-v11',
    states: ['MSC4297-problem-A/state-bob', 'MSC4297-problem-A/state-charlie'],
  },
  msc4297_problem_a_state_res_v2_1: {
    events: 'MSC4297-problem-A/pdus-v12',
    states: ['MSC4297-problem-A/state-bob', 'MSC4297-problem-A/state-charlie'],
  },
  msc4297_problem_b_state_res_v2_0: {
    events: 'MSC4297-problem-B/pdus-v11',
    states: ['MSC4297-problem-B/state-eve', 'MSC4297-problem-B/state-zara'],
  },
  msc4297_problem_b_state_res_v2_1: {
    events: 'MSC4297-problem-B/pdus-v12',
    states: ['MSC4297-problem-B/state-eve', 'MSC4297-problem-B/state-zara'],
  },
};

class Fixture {
  readonly events: ReadonlyMap<EventId, Pdu>;
  readonly rules: RoomVersionRules;
  readonly roomId: RoomId;

  constructor(readings: readonly JsonObject[]) {
    const [create] = readings;
    this.rules = roomVersionRules((create!['content'] as JsonObject)['room_version'] as string)!;
    this.roomId = (readings[1]!['room_id'] ?? create!['room_id']) as RoomId;
    this.events = new Map(readings.map((json) => this.#pdu(json)).map((pdu) => [pdu.eventId, pdu]));
  }

  /** The fixtures leave out what resolution does not look at, such as depth and hashes. */
  #pdu(json: JsonObject): Pdu {
    return {
      eventId: json['event_id'] as EventId,
      roomId: this.roomId,
      type: json['type'] as string,
      stateKey: json['state_key'] as string,
      sender: json['sender'] as UserId,
      content: json['content'] as JsonObject,
      prevEvents: json['prev_events'] as EventId[],
      authEvents: json['auth_events'] as EventId[],
      depth: 0n,
      originServerTs: json['origin_server_ts'] as number,
      json,
    };
  }

  resolve(stateSets: readonly StateMap[]): StateMap {
    return resolveState({ rules: this.rules, roomId: this.roomId, stateSets, fetchEvent: (id) => this.events.get(id) });
  }

  stateOf(ids: Iterable<EventId>): StateMap {
    return new Map([...ids].map((id) => [this.#place(id), id]));
  }

  #place(id: EventId): string {
    const { type, stateKey } = this.events.get(id)!;
    return stateMapKey(type, stateKey!);
  }

  /** Every event a state of its own, with the state resolved so far: in one go or batch by batch. */
  resolveInBatches(batches: readonly (readonly EventId[])[]): StateMap {
    let state: StateMap | undefined;
    for (const batch of batches) {
      state = this.resolve([...(state === undefined ? [] : [state]), ...batch.map((id) => this.stateOf([id]))]);
    }
    return state!;
  }

  /** As a server would meet them: the state at each event from its prev_events, then that of all leaves. */
  resolveAlongTheGraph(): StateMap {
    const states = new Map<EventId, StateMap>();
    const leaves = new Set(this.events.keys());
    while (states.size < this.events.size) {
      const known = states.size;
      for (const { eventId, prevEvents } of this.events.values()) {
        if (states.has(eventId) || !prevEvents.every((id) => states.has(id))) continue;
        const before = this.resolve(prevEvents.map((id) => states.get(id)!));
        states.set(eventId, this.resolve([before, new Map([...before, [this.#place(eventId), eventId]])]));
        for (const id of prevEvents) leaves.delete(id);
      }
      expect(states.size).toBeGreaterThan(known);
    }
    return this.resolve([...leaves].map((id) => states.get(id)!));
  }
}

describe('the fixtures of ruma-state-res', () => {
  let found: Awaited<ReturnType<typeof rumaFixtures>>;
  beforeAll(async () => {
    found = await rumaFixtures(process.env);
  });

  const read = (folder: string, name: string): string =>
    readFileSync(join('path' in found ? found.path : '', folder, name), 'utf8');
  const fixture = (name: string): JsonObject[] => JSON.parse(read('fixtures', `${name}.json`)) as JsonObject[];
  /** The ids in a snapshot: JSON after a header between lines of dashes. */
  const snapshot = (name: string): string[] => {
    const [, , ...body] = read('snapshots', `${name}@resolved_state.snap`).split(/^---$/m);
    return (JSON.parse(body.join('---')) as JsonObject[]).map((entry) => entry['event_id'] as string).sort();
  };
  const ids = (state: StateMap): string[] => [...state.values()].sort();

  for (const [name, files] of Object.entries(BATCHES)) {
    test(`${name}: resolve to its snapshot event by event, batch by batch and all at once`, (context) => {
      if ('missing' in found) return context.skip(found.missing);
      const batches = files.map(fixture);
      const room = new Fixture(batches.flat());
      const batchIds = batches.map((batch) => batch.map((json) => json['event_id'] as EventId));
      expect(ids(room.resolveAlongTheGraph())).toEqual(snapshot(name));
      expect(ids(room.resolveInBatches(batchIds))).toEqual(snapshot(name));
      expect(ids(room.resolveInBatches([batchIds.flat()]))).toEqual(snapshot(name));
    });
  }

  for (const [name, { events, states }] of Object.entries(STATE_MAPS)) {
    test(`${name}: resolve to its snapshot`, (context) => {
      if ('missing' in found) return context.skip(found.missing);
      const room = new Fixture(fixture(events));
      const stateSets = states.map((state) => room.stateOf(fixture(state) as unknown as EventId[]));
      expect(ids(room.resolve(stateSets))).toEqual(snapshot(name));
      const document = JSON.stringify({ events: fixture(events), state_sets: states.map(fixture) });
      const inspected = inspectResolve(document, room.rules);
      expect(inspected.ok ? inspected.answer['state'] : inspected).toEqual(snapshot(name));
    });
  }
});
