/**
 * Who waits for whom when keys are asked for. Names are free: under one domain there are as many as anybody likes, and a
 * server that never answers costs ten seconds. So those that gave a key once, the states that we fetch for ourselves, and
 * what strangers send have places of their own; strangers take them by turns, a domain after the other. Whoever sends a request
 * and is in no room of ours has the least: a few places for a moment each, so that many names where nothing answers are soon through,
 * and a server that is new and honest has its turn. Mostly it needs none: whoever it joined through pushes its join before.
 */
import { isIP } from 'node:net';
import { LRUCache } from 'lru-cache';
import { type Clock } from '../clock.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type KeyAsker } from '../verification/contract.ts';
import { type Turns, createTurns } from '../turns.ts';

/** Servers asked at a time; each costs a name look-up and a TLS handshake. */
const PLACES = 48;
/** Servers of rooms' states: one room may use what there is for a room, and leaves places for others. */
const STATE_PLACES = 64;
/** Of those on one domain, where they are known: hosts of many servers are asked about all at once at times. */
const KNOWN_OF_DOMAIN_MAX = 16;
/** For names that strangers wrote, in what they push and over their requests each. */
const STRANGE_PLACES = 16;
const STRANGE_OF_DOMAIN_MAX = 4;
/** For names of servers in no room of ours that send requests: each is given up soon, so that the last one waits some 20 s. */
const UNKNOWN_PLACES = 8;
const UNKNOWN_OF_DOMAIN_MAX = 2;
const UNKNOWN_WANTED_MAX = 64;
const UNKNOWN_WANTED_OF_DOMAIN_MAX = 4;
const UNKNOWN_MS_MAX = 3_000;
/** Names on one domain that are looked for in a minute: more than a room has at its liveliest. */
const STRANGE_OF_DOMAIN_PER_MINUTE_MAX = 600;
/** Keys that wait, in all and on one domain: what is more is not looked for, and wanted again after a while. */
const STRANGE_WANTED_MAX = 2_000;
const STRANGE_WANTED_OF_DOMAIN_MAX = 64;
/** Batches under way at the notaries. */
const BATCHES = 4;
const DOMAINS_REMEMBERED_MAX = 10_000;
const MINUTE_MS = 60_000;

export interface KeyLane {
  /** `known`, `state`, `pushed`, `request` or `unknown`. */
  readonly name: string;
  /** Places at the notaries, by batch, and at servers themselves. */
  readonly batches: Turns;
  readonly servers: Turns;
  /** How long whoever is asked may take, milliseconds; absent: as long as for anything. */
  readonly patienceMs?: number;
}

/** Of a server whose key is wanted: it gave one once; it is in no room of ours, or may say nothing there; or neither. */
export type KeyStanding = 'gave-a-key' | 'unknown' | 'any';

/** Where a key is looked for. */
export interface KeyPlace {
  readonly lane: KeyLane;
  /** What is asked of a notary together; it does not suffer from what others are asked. */
  readonly batch: string;
  /** Who takes turns at the lane's places. */
  readonly group: string;
}

export interface KeyLanes {
  /** `undefined`: there is no share left for such a name now. `standing`: what is known of the server. */
  placeOf(serverName: ServerName, asker: KeyAsker, standing: KeyStanding): KeyPlace | undefined;
  /** The search at that place is over. */
  leave(place: KeyPlace): void;
}

/** The places of one process, all free; `clock` says when a minute is over. */
export function createKeyLanes(clock: Clock): KeyLanes {
  const known = {
    name: 'known',
    batches: createTurns(BATCHES),
    servers: createTurns(PLACES, KNOWN_OF_DOMAIN_MAX),
  } as const;
  const state = { name: 'state', batches: createTurns(BATCHES), servers: createTurns(STATE_PLACES, PLACES) } as const;
  const unknown = strangeLane('unknown', clock, {
    servers: createTurns(UNKNOWN_PLACES, UNKNOWN_OF_DOMAIN_MAX),
    batches: createTurns(UNKNOWN_PLACES, 1),
    wantedMax: UNKNOWN_WANTED_MAX,
    wantedOfDomainMax: UNKNOWN_WANTED_OF_DOMAIN_MAX,
    patienceMs: UNKNOWN_MS_MAX,
  });
  const strange = new Map(
    [strangeLane('pushed', clock), strangeLane('request', clock), unknown].map((lane) => [lane.name, lane]),
  );

  return {
    placeOf(serverName, asker, standing) {
      const domain = domainOf(serverName);
      if (standing === 'gave-a-key') return { lane: known, batch: asker, group: domain };
      const lane = asker === 'request' && standing === 'unknown' ? unknown : strange.get(asker);
      if (lane === undefined) return { lane: state, batch: asker, group: asker };
      const names = lane.names.get(domain) ?? 0;
      if (names >= STRANGE_OF_DOMAIN_PER_MINUTE_MAX || lane.wanted >= lane.wantedMax) return undefined;
      const wanted = lane.wantedOf.get(domain) ?? 0;
      if (wanted >= lane.wantedOfDomainMax) return undefined;
      // The minute is that of the first name.
      lane.names.set(domain, names + 1, { noUpdateTTL: true });
      lane.wanted += 1;
      lane.wantedOf.set(domain, wanted + 1);
      return { lane, batch: domain, group: domain };
    },
    leave({ lane: { name }, group }) {
      const lane = strange.get(name);
      if (lane === undefined) return;
      lane.wanted -= 1;
      const left = (lane.wantedOf.get(group) ?? 1) - 1;
      if (left === 0) lane.wantedOf.delete(group);
      else lane.wantedOf.set(group, left);
    },
  };
}

/** Whether what is asked for are names that strangers wrote, and nothing of ours needs them. */
export function isOfStrangers(asker: KeyAsker): boolean {
  return asker === 'pushed' || asker === 'request';
}

interface StrangeLane extends KeyLane {
  readonly wantedMax: number;
  readonly wantedOfDomainMax: number;
  wanted: number;
  readonly wantedOf: Map<string, number>;
  /** How many names on a domain were looked for in its minute. */
  readonly names: LRUCache<string, number>;
}

type Shares = Pick<StrangeLane, 'batches' | 'servers' | 'wantedMax' | 'wantedOfDomainMax' | 'patienceMs'>;

function strangeLane(name: string, clock: Clock, shares?: Shares): StrangeLane {
  return {
    name,
    batches: createTurns(BATCHES, 1),
    servers: createTurns(STRANGE_PLACES, STRANGE_OF_DOMAIN_MAX),
    wantedMax: STRANGE_WANTED_MAX,
    wantedOfDomainMax: STRANGE_WANTED_OF_DOMAIN_MAX,
    ...shares,
    wanted: 0,
    wantedOf: new Map(),
    names: new LRUCache({ max: DOMAINS_REMEMBERED_MAX, ttl: MINUTE_MS, perf: clock }),
  };
}

/** The last two labels of a name: what somebody pays for, mostly. All addresses are one: there are too many of them. */
function domainOf(serverName: ServerName): string {
  const host = serverName.replace(/:\d+$/, '');
  if (host.startsWith('[') || isIP(host) !== 0) return 'addresses';
  return host.toLowerCase().split('.').slice(-2).join('.');
}
