/**
 * A run as a person can follow it: what was done, who said what and what became of it, what we asked of whom, and what we decided.
 * Events are called by the order in which they were made.
 */
import { type EventId } from '../../src/matrix/identifiers.ts';
import { explainEntry } from '../../src/resync/explain-entry.ts';
import { readJournal } from '../../src/store/journal/journal.ts';
import { openStore } from '../../src/store/open-store.ts';
import { type Plan, type Step } from './plan.ts';
import { type Play } from './play.ts';

/** Lines, under their headings. */
export async function storyOf(play: Play): Promise<string[]> {
  const { world, residents, plan } = play;
  const names = new Map([...world.events.keys()].map((eventId, i) => [eventId, `E${i + 1}`]));
  // That of the process may be dead.
  const { connection, serverName } = play.process.fragile.store;
  const databaseUrl = connection.connectionString ?? '';
  const store = openStore({ databaseUrl, serverName, poolSizeMax: 1, applicationName: 'rejoinder story' });
  const journal = await readJournal(store, { roomId: world.roomId, sincePosition: 0, limit: 10_000 });
  const staged = await store.query<StagedRow>(
    `SELECT event_id AS "eventId", origin, waits_for AS "waitsFor", attempts, reason, dropped_at IS NOT NULL AS "isDropped"
       FROM staged_pdus WHERE room_id = $1 ORDER BY nid`,
    [world.roomId],
  );
  await store.close();
  const lines = [
    'What was done:',
    ...stepsOf(plan),
    'The events:',
    ...[...world.events.keys()].map((eventId) => eventOf(play, eventId)),
    'What was asked:',
    ...residents.asked.map((line) => `  ${line}`),
    'What was decided:',
    ...journal.map(({ position, event }) => `  ${position}  ${explainEntry(event)}`),
    'What waits, or was dropped:',
    ...staged.map(waitOf),
    'What clients were told:',
    ...play.clients.story(),
  ];
  return lines.map((line) => called(line, names, world.roomId));
}

/** Events and the room by short names. */
export function called(line: string, names: ReadonlyMap<EventId, string>, roomId: string): string {
  return line.replaceAll(/\$[\w.:/+=-]+/g, (id) => names.get(id as EventId) ?? id).replaceAll(roomId, 'the room');
}

interface StagedRow {
  readonly eventId: EventId;
  readonly origin: string;
  readonly waitsFor: readonly EventId[];
  readonly attempts: number;
  readonly reason: string | null;
  readonly isDropped: boolean;
}

function waitOf({ eventId, origin, waitsFor, attempts, reason, isDropped }: StagedRow): string {
  const how = isDropped ? 'dropped' : `waits${waitsFor.length > 0 ? ` for ${waitsFor.join(', ')}` : ''}`;
  return `  ${eventId} of ${origin}: ${how} after ${attempts} attempts: ${reason ?? 'no reason'}`;
}

function stepsOf({ past, steps }: Plan): string[] {
  const lines = (some: readonly Step[]): string[] =>
    some.map(
      ({ do: what, ...how }) =>
        `  ${what} ${Object.entries(how)
          .map(([key, value]) => `${key} ${value}`)
          .join(', ')}`,
    );
  return [...lines(past), '  (from here on we are to join)', ...lines(steps)];
}

function eventOf({ world, residents, pushed }: Play, eventId: EventId): string {
  const { type, stateKey, sender, content, prevEvents, authEvents } = world.truth.event(eventId);
  const what = type === 'm.room.member' ? `${JSON.stringify(content['membership'])} of ${stateKey ?? ''}` : type;
  const { verdict, rule } = world.truth.judgementOf(eventId);
  const how = pushed.has(eventId) ? ', pushed' : residents.given.has(eventId) ? ', given when we asked' : '';
  const truth = verdict === 'accepted' ? '' : `, in truth refused (${rule ?? ''})`;
  const cites = `after ${prevEvents.join(' and ') || 'nothing'}, by ${authEvents.join(', ') || 'nothing'}`;
  return `  ${eventId} (${eventId.slice(0, 8)})  ${sender}: ${what}; ${cites}${truth}${how}`;
}
