/** `rejoinder rooms list`: all rooms in a table; `rooms show`: one, and what was decided about it, when and why. */
import { type z } from 'zod';
import { systemClock } from '../../clock.ts';
import { type RoomAnswer, type ShownProgress, descriptionAnswer, roomsAnswer } from '../../operator/answer-forms.ts';
import { understood } from '../understood.ts';
import { type ClientOptions, connectOperator } from '../operator-client.ts';
import { type Output, humanDuration, humanSize, printable, table } from '../output.ts';

type Description = z.output<typeof descriptionAnswer>;
type CorrectionsDue = NonNullable<Description['corrections_due']>;

export interface RoomsOptions extends ClientOptions {
  readonly json: boolean;
}

/** Prints the rooms and how far each is. */
export async function listRooms(options: RoomsOptions, output: Output): Promise<void> {
  const body = await read('/rooms', options);
  if (options.json) output.json(body);
  else printList(understood(roomsAnswer, body).rooms, output);
}

/** Prints a room by its journal. */
export async function showRoom(room: string, options: RoomsOptions, output: Output): Promise<void> {
  const body = await read(`/rooms/${encodeURIComponent(room)}`, options);
  if (options.json) output.json(body);
  else printDescription(understood(descriptionAnswer, body), output);
}

async function read(path: string, options: RoomsOptions): Promise<unknown> {
  const client = await connectOperator(options);
  try {
    return (await client.ask(path)).body;
  } finally {
    await client.close();
  }
}

function printList(found: readonly RoomAnswer[], output: Output): void {
  if (found.length === 0) {
    output.line(`No rooms. Join one: rejoinder join '#room:server' --user NAME`);
    return;
  }
  const rows = found.map((room) => [
    room.room_id,
    room.canonical_alias ?? room.name ?? '',
    phaseOf(room),
    room.resident ?? room.joined_via ?? '',
    String(room.members ?? room.members_known),
    String(room.attempts),
    nextOf(room),
  ]);
  for (const line of table(['ROOM', 'NAME', 'PHASE', 'RESIDENT', 'MEMBERS', 'ATTEMPTS', 'NEXT'], rows)) {
    output.line(line);
  }
}

function nextOf({ phase, next_wake_at: at, last_failure: failure, parked }: RoomAnswer): string {
  if (parked != null) return `parked (${parked.because})`;
  if (phase !== 'waiting' || at === null) return '';
  const because = failure === null ? '' : ` (${failure.resident}: ${failure.reason})`;
  return `in ${humanDuration(Date.parse(at) - systemClock.now())}${because}`;
}

/** A server of an earlier version calls a degraded room complete. */
function phaseOf({ phase, degraded }: Pick<RoomAnswer, 'phase' | 'degraded'>): string {
  return degraded != null && phase === 'complete' ? 'degraded' : phase;
}

function lackedBy(degraded: NonNullable<RoomAnswer['degraded']>): string {
  const { missing_events: count, found_later: found, fell_with_them: fell, since, first, orphaned = false } = degraded;
  if (orphaned) return `its state as a whole: no server is left in it but this one, since ${since} at the latest`;
  const named = first.map(({ event_id: eventId, why }) => `${eventId}: ${why}`).join(', ');
  return `${count} events of the state since ${since} (${named}); ${found} found later, ${fell} fell with them`;
}

function parkedOf({ because, reason, leaving, since }: NonNullable<RoomAnswer['parked']>): string {
  const what = leaving ? 'our users leave the room' : 'nobody is asked for its state until it is resumed';
  return `since ${since}, ${because}: ${reason}; ${what}`;
}

function unusableOf({ events, first }: NonNullable<RoomAnswer['unusable']>): string {
  const named = first.map(({ event_id: eventId, why, from }) => `${eventId}: ${why}, as ${from.join(', ')} gave it`);
  return `${events} events of the state for want of a copy that can be used (${named.join('; ')})`;
}

function missingOf(event: Description['missing_events'][number]): string {
  const { event_id: eventId, why, type, since, asked_of: askedOf, named_by: namedBy, gap, found_at: foundAt } = event;
  const what = type === null ? eventId : `${eventId}, a ${type}`;
  const by = askedOf.length === 0 ? 'nobody answered' : `asked ${askedOf.join(', ')}`;
  const where = gap === null ? '' : `; lacking at the gap ${gap} alone, named by ${namedBy.join(', ')}`;
  return `${what}: ${why} since ${since}, ${by}${where}${foundAt === null ? '' : `; found at ${foundAt}`}`;
}

function intentOf(intent: Description['open_joins'][number]): string {
  const { what, user_id: userId, resident, since, attempts, next_try_at: next, last_reason: reason } = intent;
  const doing = { join: 'may be joined', knock: 'may have knocked', leave: 'is to leave again' }[what];
  const why = reason === null ? '' : ` (${reason})`;
  return `${userId} ${doing} via ${resident} since ${since}, tried ${attempts} times, next at ${next}${why}`;
}

function saidOf({ resident, by, reason, since }: Description['pinned'][number]): string {
  return `${resident} since ${since ?? 'no time'}, by ${by ?? 'nobody'}${reason === null ? '' : `: ${reason}`}`;
}

function progressOf(now: ShownProgress): string {
  if (now.step === 'walk') return `${now.walked} events judged again, ${now.remaining} left`;
  return `${now.held} of ${now.wanted} events held, ${humanSize(now.bytes)} received`;
}

function gapOf(gap: Description['gaps'][number]): string {
  const next = gap.next_try_at === null ? 'given up' : `tried next at ${gap.next_try_at}`;
  const why = gap.last_reason === null ? '' : ` (${gap.last_reason})`;
  return `${gap.event_id} since ${gap.opened_at}, asked ${gap.attempts} times, ${next}${why}`;
}

function judgedOf({ walked, corrected }: Description): string {
  const more = corrected === 0 ? '' : ', which "rejoinder corrections" lists';
  return `${walked} events again with full state; corrected: ${corrected}${more}`;
}

function dueOf({ changes, events, oldest_since: since, judged, changed }: CorrectionsDue): string {
  const first = since === null ? '' : `, the first since ${since}`;
  return `${changes} changes to be followed and ${events} events to be judged again${first}; ${judged} judged so far, ${changed} of them changed`;
}

function printDescription(room: Description, output: Output): void {
  output.line(output.colours.bold(printable(room.name ?? room.canonical_alias ?? room.room_id)));
  const facts: [string, string][] = [
    ['room', room.room_id],
    ['alias', room.canonical_alias ?? 'none'],
    ['phase', phaseOf(room)],
    ...(room.degraded == null ? [] : [['lacks', lackedBy(room.degraded)] satisfies [string, string]]),
    ...(room.parked == null ? [] : [['parked', parkedOf(room.parked)] satisfies [string, string]]),
    ...(room.unusable == null ? [] : [['dropped', unusableOf(room.unusable)] satisfies [string, string]]),
    ['members', room.members === null ? `${room.members_known} known so far` : String(room.members)],
    ['joined', `via ${room.joined_via ?? 'nobody'} at ${room.joined_at ?? 'no time'}`],
    ['servers', `${room.servers} may be asked`],
    ...room.pinned.map((pin): [string, string] => ['pinned', saidOf(pin)]),
    ...room.banned.map((ban): [string, string] => ['banned', saidOf(ban)]),
    ...Object.entries(room.policy).map(([name, value]): [string, string] => ['policy', `${name} ${value}`]),
    ...(room.walked === 0 ? [] : [['judged', judgedOf(room)] satisfies [string, string]]),
    ...(room.progress === null ? [] : [['now', progressOf(room.progress)] satisfies [string, string]]),
    ...(room.corrections_due == null || room.corrections_due.changes + room.corrections_due.events === 0
      ? []
      : [['due', dueOf(room.corrections_due)] satisfies [string, string]]),
    ...(room.oldest_staged_at === null
      ? []
      : [
          ['staged', `${room.staged_events} events, the oldest since ${room.oldest_staged_at}`] satisfies [
            string,
            string,
          ],
        ]),
    ...room.waiting_events.map((event): [string, string] => [
      'waits',
      `${event.event_id} of ${event.origin} since ${event.received_at}: ${event.reason ?? 'for its turn'}`,
    ]),
    ...room.missing_events.map((event): [string, string] => ['missing', missingOf(event)]),
    ...room.open_joins.map((intent): [string, string] => [intent.what, intentOf(intent)]),
    ...room.gaps.map((gap): [string, string] => ['gap', gapOf(gap)]),
    ...room.dropped_events.map((event): [string, string] => [
      'given up',
      `${event.event_id} of ${event.origin} at ${event.dropped_at}: ${event.reason}`,
    ]),
  ];
  for (const [name, value] of facts) output.line(`  ${name.padEnd(8)} ${printable(value)}`);
  output.line();
  for (const { at, explanation } of room.journal) {
    output.line(`${output.colours.dim(printable(at))}  ${printable(explanation)}`);
  }
}
