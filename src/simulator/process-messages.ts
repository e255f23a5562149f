/** What passes between the process that wants a simulated federation and the one that is it; no code. */
import { type InjectedFault, type Simulator, type SimulatorOptions } from './contract.ts';

/** What is known once the simulator listens. */
export type SimulatorFacts = Pick<
  Simulator,
  'port' | 'domain' | 'authorityPem' | 'staticAddresses' | 'residents' | 'rooms'
> & { readonly pid: number };

/** Calls that pass as they are. */
export type PassedCall =
  | 'clear'
  | 'counts'
  | 'resetCounts'
  | 'emit'
  | 'stateEvent'
  | 'holds'
  | 'summary'
  | 'speakers'
  | 'pushesSettled'
  | 'digest';

export type SimulatorRequest =
  | { readonly type: 'start'; readonly options: SimulatorOptions }
  | { readonly type: 'call'; readonly id: number; readonly call: PassedCall; readonly args: readonly unknown[] }
  /** Answered with the number of the fault, by which `fault` names it. */
  | { readonly type: 'inject'; readonly id: number; readonly rule: Parameters<Simulator['inject']>[0] }
  | {
      readonly type: 'fault';
      readonly id: number;
      readonly faultNo: number;
      readonly call: keyof InjectedFault;
    };

export type SimulatorReply =
  | { readonly type: 'progress'; readonly line: string }
  | { readonly type: 'started'; readonly facts: SimulatorFacts }
  | { readonly type: 'not-started'; readonly reason: string }
  | { readonly type: 'done'; readonly id: number; readonly value: unknown }
  | { readonly type: 'failed'; readonly id: number; readonly reason: string };
