/**
 * What may be commanded of a room, by the names that people use at every edge: the command line, the API, and signals and updates at
 * Temporal. Bodies are the same JSON everywhere.
 */
import { z } from 'zod';
import { parseDuration, writtenDuration } from '../config/units.ts';
import { type ServerName, parseServerName } from '../matrix/identifiers.ts';
import { problemsOf } from '../problems.ts';
import { type CommandName, type RoomCommand } from '../resync/commands.ts';
import { type Directed } from '../resync/operator-events.ts';
import { LEAVE_DURING_RESYNC, type RoomPolicy, type RoomPolicyChanges } from '../resync/room-policy.ts';

/** Characters of who decided, and why: both stand in the journal. */
const BY_MAX = 100;
const REASON_MAX = 300;

const oneLine = (what: string, charsMax: number) =>
  z
    .string({ error: what })
    .trim()
    .min(1, { error: what })
    .max(charsMax, { error: `${what}, at most ${charsMax} characters` })
    .regex(/^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$/, { error: `${what}, in one line` });

/** Whose decision it is, and why. */
export const said = z.strictObject(
  {
    by: oneLine('who decides it', BY_MAX).describe('Who decides it, for the journal.').optional(),
    reason: oneLine('why', REASON_MAX).describe('Why, for the journal.').optional(),
  },
  { error: 'a JSON object' },
);

const RESIDENT_EXPECTED = 'a server name, such as example.org';
const resident = z
  .string({ error: RESIDENT_EXPECTED })
  .refine((text) => parseServerName(text) !== undefined, { error: RESIDENT_EXPECTED })
  .describe('The name of the server.');
const ofResident = said.extend({ resident });

const GIVE_UP_AFTER_EXPECTED = 'a duration such as 12h or 14d, at most 24d; or never, or null';
const policy = z
  .strictObject(
    {
      given_up: z
        .enum(['park', 'leave'], { error: 'park, leave, or null' })
        .nullable()
        .optional()
        .describe('What becomes of our users when the room is given up.'),
      give_up_after: z
        .string({ error: GIVE_UP_AFTER_EXPECTED })
        .refine((text) => text === 'never' || parseDuration(text) !== undefined, { error: GIVE_UP_AFTER_EXPECTED })
        .nullable()
        .optional()
        .describe('How long after its first failed round it is given up.'),
      state_quorum: z
        .int({ error: 'a number of servers, 1 to 3, or null' })
        .min(1, { error: '1 at least' })
        .max(3, { error: '3 at most' })
        .nullable()
        .optional()
        .describe("Of how many servers a join's state is asked, and compared."),
      leave_during_resync: z
        .enum(LEAVE_DURING_RESYNC, { error: `${LEAVE_DURING_RESYNC.join(', ')}, or null` })
        .nullable()
        .optional()
        .describe('What is done when the last of our users leaves it while it is partial.'),
    },
    { error: 'an object of policies' },
  )
  .refine((changes) => Object.keys(changes).length > 0, {
    error: 'one of given_up, give_up_after, state_quorum and leave_during_resync at least',
  })
  .describe('Policies that this room has otherwise than all; null: as all.');

/** What each command is told, by its name. */
export const COMMAND_BODIES = {
  retry: said,
  resume: said,
  cancel: said,
  'pin-resident': ofResident,
  'unpin-resident': ofResident,
  'ban-resident': ofResident,
  'unban-resident': ofResident,
  'set-policy': said.extend({ policy }),
} as const satisfies Readonly<Record<CommandName, z.ZodType>>;

/** Whether there is such a command, whatever was typed. */
export function isCommandName(name: string): name is CommandName {
  return Object.hasOwn(COMMAND_BODIES, name);
}

export interface ReadCommand {
  readonly command: RoomCommand;
  readonly said: Pick<Directed, 'reason'> & { readonly by: string | undefined };
}

/** A command and whose it is, or in words what is wrong with what came. */
export function readCommand(name: CommandName, body: unknown): ReadCommand | { readonly problem: string } {
  const read = COMMAND_BODIES[name].safeParse(body);
  if (!read.success) return { problem: problemsOf(read.error, 'body') };
  const { by, reason } = read.data;
  return { command: commandOf(name, read.data), said: { by, ...(reason === undefined ? {} : { reason }) } };
}

type Body = z.output<(typeof COMMAND_BODIES)[CommandName]>;

function commandOf(name: CommandName, body: Body): RoomCommand {
  if (name === 'retry' || name === 'resume' || name === 'cancel') return { type: name };
  if (name === 'set-policy') return { type: name, policy: changesOf('policy' in body ? body.policy : {}) };
  return { type: name, resident: ('resident' in body ? body.resident : '') as ServerName };
}

/** In the names and units of the journal. */
function changesOf(changes: z.output<typeof policy>): RoomPolicyChanges {
  const { given_up: givenUp, give_up_after: after, state_quorum: stateQuorum, leave_during_resync: leave } = changes;
  const giveUpAfterMs =
    after === null || after === undefined || after === 'never' ? after : (parseDuration(after) ?? null);
  return {
    ...(givenUp === undefined ? {} : { givenUp }),
    ...(giveUpAfterMs === undefined ? {} : { giveUpAfterMs }),
    ...(stateQuorum === undefined ? {} : { stateQuorum }),
    ...(leave === undefined ? {} : { leaveDuringResync: leave }),
  };
}

/** A room's policies as they are written in a command, and in rejoinder.yaml. */
export function writtenPolicy(policy: RoomPolicy): Record<string, string | number> {
  const { givenUp, giveUpAfterMs, stateQuorum, leaveDuringResync } = policy;
  return {
    ...(givenUp === undefined ? {} : { given_up: givenUp }),
    ...(giveUpAfterMs === undefined
      ? {}
      : { give_up_after: giveUpAfterMs === 'never' ? giveUpAfterMs : writtenDuration(giveUpAfterMs) }),
    ...(stateQuorum === undefined ? {} : { state_quorum: stateQuorum }),
    ...(leaveDuringResync === undefined ? {} : { leave_during_resync: leaveDuringResync }),
  };
}
