/** The steps of a join that the demo tells, in the order in which a join without trouble goes through them. */

export const STEPS = {
  'join-asked': 'join asked for',
  'join-answered': 'join answered',
  'room-usable': 'room usable',
  'room-talked': 'room talked',
  'client-spoke': 'client spoke',
  'answer-shown': 'answer shown',
  'state-asked': 'state asked for',
  'state-refused': 'attempt failed',
  'round-failed': 'round failed',
  'state-fetched': 'state fetched',
  'join-event-full': 'join event full',
  'events-walked': 'events walked',
  'verdict-corrected': 'verdict corrected',
  'resync-done': 'resync done',
  'members-answered': '/members answered',
} as const;

export type StepName = keyof typeof STEPS;

export interface Step {
  readonly name: StepName;
  /** Milliseconds after the join was asked for. */
  readonly atMs: number;
  /** One line about it. */
  readonly detail: string;
}
