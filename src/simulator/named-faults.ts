/**
 * The faults that a person can ask for by name, in the demo's `--fail`: each with what it does, in words. They strike in
 * the middle of the state fetch: the answer of `/state`, halfway.
 */
import { type EndpointName } from './contract.ts';
import { type SimulatorFault } from './simulator-faults.ts';

export interface NamedFault {
  /** One line for the help text. */
  readonly summary: string;
  readonly fault: SimulatorFault;
  /** Where it strikes; every endpoint when absent. */
  readonly endpoint?: EndpointName;
}

const MIDDLE = { share: 0.5 } as const;

/** What an endless answer is made of: of an event's size, and none. */
const NO_EVENT = `,${JSON.stringify({ type: 'm.room.member', content: { displayname: 'x'.repeat(700) } })}`;

const atState = (summary: string, fault: SimulatorFault): NamedFault => ({ summary, fault, endpoint: 'state' });

const answering = (summary: string, status: number, errcode: string, headers?: Record<string, string>): NamedFault =>
  atState(summary, { kind: 'status', status, errcode, ...(headers === undefined ? {} : { headers }) });

/** By name. Give one to `Simulator.inject`, with a server where it is to strike one only. */
export const NAMED_FAULTS: Readonly<Record<string, NamedFault>> = {
  latency: { summary: 'every answer comes 2 s late', fault: { kind: 'latency', ms: 2_000 } },
  bandwidth: atState('the state comes at 256 KiB a second', { kind: 'bandwidth', bytesPerSecond: 262_144 }),
  drip: atState('the state comes at 50 bytes a second', { kind: 'bandwidth', bytesPerSecond: 50 }),
  status: answering('the state is refused with 500', 500, 'M_UNKNOWN'),
  forbidden: answering('the state is refused with 403', 403, 'M_FORBIDDEN'),
  'not-found': answering('the state is refused with 404', 404, 'M_NOT_FOUND'),
  'partial-there': answering(
    'the resident is fetching the state itself and says so',
    403,
    'M_UNABLE_DUE_TO_PARTIAL_STATE',
  ),
  'rate-limited': answering('the resident asks for 5 s of patience', 429, 'M_LIMIT_EXCEEDED', { 'retry-after': '5' }),
  'hang-up': atState('the connection is cut halfway through the state', { kind: 'hang-up', at: MIDDLE }),
  truncate: atState('the state ends halfway as if it were whole', { kind: 'truncate', at: MIDDLE }),
  hold: atState('the state stops halfway and nothing more comes', { kind: 'hold', at: MIDDLE }),
  rubbish: atState('the second half of the state is random bytes', { kind: 'rubbish', at: MIDDLE }),
  endless: atState('the state never ends', { kind: 'endless', prefix: '{"pdus":[{}', filler: NO_EVENT }),
  crumbs: atState('the state is millions of empty objects', { kind: 'endless', prefix: '{"pdus":[{}', filler: ',{}' }),
  'wrong-hash': atState('three events have another content than was hashed', {
    kind: 'wrong-hash',
    events: { count: 3 },
  }),
  'wrong-signature': atState('three events have a wrong signature', {
    kind: 'wrong-signature',
    events: { count: 3 },
  }),
  // Of a big room more than are fetched one by one.
  'missing-events': atState('one event of twenty is left out', { kind: 'missing-events', events: { share: 0.05 } }),
  down: { summary: 'every connection is cut at once', fault: { kind: 'down' } },
};
