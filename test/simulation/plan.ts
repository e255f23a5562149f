/**
 * What happens in one run, as data: a seed makes a plan, and a plan is played the same way each time. A step names what it
 * is about by numbers that are taken modulo what there is, so that steps can be taken out of a plan and the rest still plays.
 */
import { type Random, createRandom } from '../differential/random.ts';
import { type SpecialAct } from './acts.ts';
import { addTalk } from './talk.ts';

/** Kinds of things that may be in a run; what the product is known not to do yet stays off. */
export const FEATURES = [
  ...(['crash', 'down', 'missing', 'late', 'duplicates', 'joins', 'forked-joins'] as const),
  ...(['stays', 'refused-join', 'foreign', 'wide', 'old-keys', 'history', 'wide-gaps', 'whole-answers'] as const),
  ...(['refused-proofs', 'besides', 'cycles', 'talk'] as const),
] as const;
export type Feature = (typeof FEATURES)[number];

const ENABLED: readonly Feature[] = FEATURES;

export type Step =
  /** Somebody of a server does something. */
  | {
      readonly do: 'act';
      readonly server: number;
      readonly seed: number;
      readonly send: 'soon' | 'late' | 'never';
      /** This, if anybody of the server can. */
      readonly special?: SpecialAct;
      /** No other server hears of a special act at once. */
      readonly isKept?: true;
      /** Of two events that cite each other: when the second one is sent. */
      readonly other?: 'soon' | 'late' | 'never';
    }
  /** All servers, or one of another, hear of what a server knows. */
  | { readonly do: 'gossip'; readonly from: number; readonly to: number | 'all' }
  /** A server sends us a transaction of what waits to be sent. */
  | {
      readonly do: 'send';
      readonly server: number;
      readonly count: number;
      readonly order: 'kept' | 'reversed' | 'shuffled';
      readonly seed: number;
      /** Sends again so many of those that were sent before, whoever sent them. */
      readonly again: number;
    }
  /** A server sends us events that came before our join, as one does that is asked for what it sent long ago. */
  | { readonly do: 'history'; readonly server: number; readonly count: number; readonly seed: number }
  /** The workflow does so many things. */
  | { readonly do: 'work'; readonly actions: number }
  | { readonly do: 'wait'; readonly ms: number }
  /** One of our users says something. */
  | { readonly do: 'say'; readonly user: number; readonly seed: number }
  /** What our users said is sent to whom it is owed. */
  | { readonly do: 'carry' }
  /** `isLax`: the server takes whoever comes, and does not tell of a ban. */
  | { readonly do: 'join'; readonly user: number; readonly via: number; readonly isLax?: true }
  | { readonly do: 'crash'; readonly commits: number; readonly when: 'before' | 'after' }
  /** A server answers nothing, or not what it is asked for mostly. */
  | { readonly do: 'down'; readonly server: number; readonly how: Outage }
  | { readonly do: 'up'; readonly server: number };

/** `few`: gives a few events at a time when it is asked for missing ones; `mute`: gives none of them. */
export type Outage = 'unreachable' | 'server-error' | 'mute' | 'few';

export interface Plan {
  readonly seed: number;
  readonly version: string;
  readonly servers: number;
  readonly features: readonly Feature[];
  /** Whether check 6 is replayed at completion for what came while the room was partial. */
  readonly retroSoftFail: boolean;
  /** Residents give the whole state at a join, whatever they are asked for. */
  readonly givesWhole: boolean;
  /** Acts before we join. */
  readonly past: readonly Step[];
  readonly steps: readonly Step[];
}

const VERSIONS = ['1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '10', '11', '11', '11', '12', '12'];

export function planOf(seed: number, enabled: readonly Feature[] = ENABLED): Plan {
  const random = createRandom(seed);
  const has = (feature: Feature): boolean => enabled.includes(feature);
  const servers = random.pick([3, 3, 4, 4, 5]);
  const past: Step[] = [];
  for (let acts = 15 + random.integer(25); acts > 0; acts -= 1) past.push(...actStep(random, servers, has));
  past.push({ do: 'gossip', from: 0, to: 'all' });
  for (let i = 0; i < servers; i += 1) past.push({ do: 'gossip', from: i, to: 'all' });

  const steps: Step[] = [{ do: 'join', user: 0, via: random.integer(servers) }];
  const size = 55 + random.integer(35);
  const crashes = has('crash') && random.chance(0.4) ? 1 + random.integer(2) : 0;
  const hasOutages = has('down') && random.chance(0.5);
  for (let acts = 0; acts < size;) {
    const dice = random.next();
    if (dice < 0.62) {
      acts += 1;
      steps.push(...actStep(random, servers, has));
    } else if (dice < 0.82) {
      steps.push(sendStep(random, servers, has));
    } else if (dice < 0.9) {
      steps.push({ do: 'work', actions: 1 + random.integer(2) });
    } else if (dice < 0.92) {
      steps.push({ do: 'wait', ms: random.pick([1_000, 20_000, 60_000]) });
    } else if (dice < 0.94) {
      if (has('joins')) steps.push({ do: 'join', user: 1 + random.integer(2), via: random.integer(servers) });
    } else if (hasOutages) {
      const server = random.integer(servers);
      const how = random.pick<Outage>(['unreachable', 'server-error', 'mute', 'few']);
      steps.push(random.chance(0.6) ? { do: 'down', server, how } : { do: 'up', server });
    }
  }
  for (let i = 0; i < crashes; i += 1) {
    const crash: Step = { do: 'crash', commits: 1 + random.integer(12), when: random.pick(['before', 'after']) };
    steps.splice(1 + random.integer(steps.length), 0, crash);
  }
  const plan = { seed, version: random.pick(VERSIONS), servers, features: enabled, retroSoftFail: random.chance(0.8) };
  const rare = createRandom(seed + RARE_SEEDS);
  addRareThings(rare, { past, steps, servers }, has);
  if (has('history')) addHistory(createRandom(seed + HISTORY_SEEDS), steps, servers);
  addTangles(createRandom(seed + TANGLE_SEEDS), { version: plan.version, steps, servers }, has);
  if (has('talk')) addTalk(seed, steps);
  return { ...plan, givesWhole: has('whole-answers') && rare.chance(0.08), past, steps };
}

/** Apart from the seeds of plans, so that what is added here leaves the rest of a plan as it is. */
const RARE_SEEDS = 2_000_000_000;
const HISTORY_SEEDS = 3_000_000_000;
const TANGLE_SEEDS = 4_000_000_000;
/** Versions in which senders choose ids, so that events may cite each other in a circle. */
const VERSIONS_WITH_CYCLES: readonly string[] = ['1', '2'];

/** What came before our join is sent to us, mostly while the room is partial yet, in a quarter of the rooms. */
function addHistory(random: Random, steps: Step[], servers: number): void {
  if (!random.chance(0.25)) return;
  for (let times = 1 + random.integer(3); times > 0; times -= 1) {
    const [server, seed] = [random.integer(servers), random.integer(1_000_000_000)];
    const at = 1 + Math.floor((steps.length - 1) * random.next() ** 2);
    steps.splice(at, 0, { do: 'history', server, count: 1 + random.integer(6), seed });
  }
}

/** Chains of events of which one makes sense by another only, each in some of the rooms; most while the room is partial. */
function addTangles(
  random: Random,
  { version, steps, servers }: { readonly version: string; readonly steps: Step[]; readonly servers: number },
  has: (feature: Feature) => boolean,
): void {
  const act = (
    special: SpecialAct,
    send: 'soon' | 'late' | 'never' = 'soon',
    more: { readonly isKept?: true; readonly other?: 'soon' | 'late' | 'never' } = {},
  ): Step => {
    return { do: 'act', server: random.integer(servers), seed: random.integer(1_000_000_000), send, special, ...more };
  };
  const sendAll = (): Step[] =>
    Array.from({ length: servers }, (_, server) => {
      return { do: 'send', server, count: 20, order: 'kept', seed: 1, again: 0 };
    });
  const words = (count: number): Step[] => Array.from({ length: count }, () => actStep(random, servers, has)).flat();
  // Sooner rather than later; the first step is our join, or what it takes to be refused.
  const put = (...added: readonly Step[]): void => {
    steps.splice(1 + Math.floor((steps.length - 1) * random.next() ** 2), 0, ...added);
  };
  const tellOfUs: Step[] = Array.from({ length: servers }, (_, from) => ({ do: 'gossip', from, to: 'all' }));
  if (has('refused-proofs') && random.chance(0.15)) {
    put(...tellOfUs, act('refused levels'), ...words(2), act('by refused levels'), act('by refused levels'));
  }
  if (has('refused-proofs') && random.chance(0.2)) {
    const [invite, join] = random.pick([
      ['soon', 'never'],
      ['late', 'soon'],
      ['soon', 'soon'],
    ] as const);
    put(
      ...[...tellOfUs, act('refused invite', invite), act('by refused invite', join)],
      ...[act('kick by refused join'), act('by refused join'), ...words(1)],
    );
  }
  if (has('besides') && random.chance(0.15)) {
    put(
      ...[
        ...tellOfUs,
        act('power leaves'),
        ...sendAll(),
        act('beside the leave', 'soon', { isKept: true }),
        ...sendAll(),
      ],
      ...[...words(4), ...sendAll()],
    );
  }
  if (has('besides') && random.chance(0.12)) {
    const joins: Step[] = [1, 2].map((user) => ({ do: 'join', user, via: random.integer(servers) }));
    steps.splice(1, 0, ...tellOfUs, act('ban us', 'soon', { isKept: true }), ...sendAll(), ...joins);
  }
  if (has('cycles') && VERSIONS_WITH_CYCLES.includes(version)) {
    for (let times = random.integer(3); times > 0; times -= 1) {
      const special = random.pick(['prev cycle', 'auth cycle'] as const);
      const [send, other] = random.pick([
        ['soon', 'soon'],
        ['soon', 'never'],
        ['soon', 'late'],
        ['late', 'soon'],
      ] as const);
      put(...tellOfUs, act(special, send, { other }), ...words(2));
    }
  }
}

/** What most rooms never see, put somewhere between the steps. */
function addRareThings(
  random: Random,
  { past, steps, servers }: { readonly past: Step[]; readonly steps: Step[]; readonly servers: number },
  has: (feature: Feature) => boolean,
): void {
  const act = (special?: SpecialAct, send: 'soon' | 'never' = 'soon', server = random.integer(servers)): Step => {
    const step = { do: 'act', server, seed: random.integer(1_000_000_000), send } as const;
    return special === undefined ? step : { ...step, special };
  };
  const tell = (step: Step): Step[] =>
    step.do === 'act' ? [step, { do: 'gossip', from: step.server, to: 'all' }] : [step];
  const put = (share: number, ...added: Step[]): number => {
    const at = 1 + Math.floor((steps.length - 1) * share);
    steps.splice(at, 0, ...added);
    return at + added.length;
  };
  for (const special of ['foreign', 'wide', 'old key'] as const) {
    const feature = special === 'old key' ? 'old-keys' : special;
    if (!has(feature) || !random.chance(0.12)) continue;
    if (random.chance(0.3)) past.splice(random.integer(past.length), 0, ...tell(act(special)));
    put(random.next(), ...tell(act(special)));
  }
  if (has('wide-gaps') && random.chance(0.1)) {
    const server = random.integer(servers);
    const unsent = Array.from({ length: 25 + random.integer(25) }, () => act(undefined, 'never', server));
    put(0.2 + 0.6 * random.next(), ...unsent, ...tell(act(undefined, 'soon', server)));
  }
  if (has('refused-join') && random.chance(0.08)) {
    past.push(...[0, 1, 2].slice(0, servers).flatMap((server) => tell(act('ban us', 'soon', server))));
    steps.splice(0, 0, { do: 'join', user: 0, via: random.integer(servers), isLax: true });
    return;
  }
  if (!has('stays') || !random.chance(0.6)) return;
  const by = random.pick([0, 0, random.integer(servers)]);
  const leaving = [1, 2, 3].flatMap(() => tell(act('expel', 'soon', by)));
  const out = 0.15 + 0.5 * random.next();
  const sent: Step[] = Array.from({ length: servers }, (_, i) => {
    return { do: 'send', server: (by + i) % servers, count: 20, order: 'kept', seed: 1, again: 0 };
  });
  const left = put(out, ...leaving, ...sent);
  const back = left + 3 + random.integer(15);
  const comingBack = [1, 2, 3].flatMap(() => tell(act('let in', 'soon', by)));
  const joins: Step[] = [1, 2, 3].map(() => ({ do: 'join', user: random.integer(3), via: random.integer(servers) }));
  steps.splice(back, 0, ...comingBack, ...joins);
}

function actStep(random: Random, servers: number, has: (feature: Feature) => boolean): Step[] {
  const server = random.integer(servers);
  const dice = random.next();
  const send = dice < 0.12 && has('missing') ? 'never' : dice < 0.2 && has('late') ? 'late' : 'soon';
  const act: Step = { do: 'act', server, seed: random.integer(1_000_000_000), send };
  if (random.chance(0.7)) return [act, { do: 'gossip', from: server, to: 'all' }];
  if (random.chance(0.5)) return [act, { do: 'gossip', from: server, to: random.integer(servers) }];
  return [act];
}

function sendStep(random: Random, servers: number, has: (feature: Feature) => boolean): Step {
  return {
    do: 'send',
    server: random.integer(servers),
    count: 1 + random.integer(8),
    order: random.pick(['kept', 'kept', 'kept', 'reversed', 'shuffled']),
    seed: random.integer(1_000_000_000),
    again: has('duplicates') && random.chance(0.2) ? 1 + random.integer(3) : 0,
  };
}
