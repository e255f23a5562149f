/** What `demo --json` prints: one document of figures, its keys a promise to whoever reads it with a program. */
import { type RequestCount } from '../../simulator/contract.ts';
import { BASELINE_MEMBERS, CLASSIC_JOIN_2022, FASTER_JOIN_2022 } from './baseline.ts';
import { type DigestComparison } from './compare-digests.ts';
import { type DemoPlan, type SimulatedRoomPlan } from './plan.ts';
import { type SimulatedStage } from './simulated-stage.ts';
import { type StepName } from './step.ts';
import { type WatchedJoin } from './timeline.ts';

export interface FiguresInput {
  readonly version: string;
  readonly plan: DemoPlan & { readonly room: SimulatedRoomPlan };
  readonly stage: SimulatedStage;
  readonly join: WatchedJoin;
  readonly compared: DigestComparison;
  readonly counts: readonly RequestCount[];
}

/** Times are milliseconds after the join was asked for; `null`: there was no such step. */
export async function figuresOf({ version, plan, stage, join, compared, counts }: FiguresInput): Promise<object> {
  const { room } = plan;
  const { made } = stage;
  const { ours, truth } = compared;
  const asked = endpointFigures(counts);
  return {
    rejoinder: version,
    room: {
      room_id: made.roomId,
      room_version: made.roomVersion,
      seed: room.seed,
      members: made.members,
      servers: made.servers,
      residents: room.residents,
      state_events: made.stateEvents,
      state_bytes: made.stateBytes,
    },
    conditions: {
      classic: plan.classic,
      latency_ms: room.latencyMs,
      bandwidth_bytes_per_second: room.bytesPerSecond ?? null,
      faults: await Promise.all(
        stage.faults.map(async (one) => ({ resident: one.resident, fault: one.fault, hits: await one.hits() })),
      ),
    },
    times_ms: timesOf(join.atMs),
    join_steps_ms: join.joinMs,
    attempts: join.attempts,
    fetched: join.fetched,
    said: join.said.length,
    corrections: join.corrections.map(({ event_id, was, is }) => ({ event_id, was, is })),
    requests: asked,
    requests_total: asked.reduce((sum, { requests }) => sum + requests, 0),
    bytes_total: asked.reduce((sum, { body_bytes: bytes }) => sum + bytes, 0),
    digest: { ours, federation: truth.digest, equal: ours === truth.digest },
    baseline_2022: {
      members: BASELINE_MEMBERS,
      faster_join_ms: timesOf(FASTER_JOIN_2022.atMs),
      classic_join_ms: timesOf(CLASSIC_JOIN_2022.atMs),
    },
  };
}

function timesOf(atMs: Partial<Readonly<Record<StepName, number>>>): Record<string, number | null> {
  const of = (name: StepName): number | null => atMs[name] ?? null;
  return {
    join_answered: of('join-answered'),
    room_usable: of('room-usable'),
    state_fetched: of('state-fetched'),
    join_event_full: of('join-event-full'),
    resync_done: of('resync-done'),
    members_answered: of('members-answered'),
  };
}

export interface EndpointFigures {
  readonly endpoint: string;
  readonly requests: number;
  readonly body_bytes: number;
  readonly failed: number;
  readonly key_servers: number;
}

/** What all servers together answered, by endpoint, the largest first. */
export function endpointFigures(counts: readonly RequestCount[]): EndpointFigures[] {
  const byEndpoint = new Map<string, EndpointFigures>();
  for (const { endpoint, direction, requests, bodyBytes, failed, keyServers } of counts) {
    if (direction !== 'answered') continue;
    const sum = byEndpoint.get(endpoint);
    byEndpoint.set(endpoint, {
      endpoint,
      requests: requests + (sum?.requests ?? 0),
      body_bytes: bodyBytes + (sum?.body_bytes ?? 0),
      failed: failed + (sum?.failed ?? 0),
      key_servers: keyServers + (sum?.key_servers ?? 0),
    });
  }
  return [...byEndpoint.values()].sort((a, b) => b.body_bytes - a.body_bytes);
}
