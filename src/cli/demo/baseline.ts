/**
 * What the steps of a join took in 2022: the Synapse team's figures for #element:matrix.org, 13,000 users, joined from a
 * small server on 30 May 2022, by a classic join and by the first faster joins.
 */
import { type StepName } from './step.ts';

export interface Baseline {
  readonly name: string;
  /** Milliseconds after the join was asked for. A step that is not there came with the one before it. */
  readonly atMs: Partial<Readonly<Record<StepName, number>>>;
}

const at = (minutes: number, seconds: number): number => (minutes * 60 + seconds) * 1_000;

export const BASELINE_MEMBERS = 13_000;

export const FASTER_JOIN_2022: Baseline = {
  name: '2022 faster',
  atMs: {
    'join-answered': at(0, 40),
    'room-usable': at(0, 45),
    'join-event-full': at(7, 1),
    'resync-done': at(7, 24),
    'members-answered': at(7, 46),
  },
};

export const CLASSIC_JOIN_2022: Baseline = {
  name: '2022 classic',
  atMs: { 'join-answered': at(5, 22) },
};
