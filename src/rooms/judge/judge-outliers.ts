/**
 * Judges events that were fetched as state or auth chain, and have no place in the timeline: check 4 alone, each against
 * its own auth events, auth events first. Verdicts are kept, so a second run after a kill costs reading only.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { impliedAuthEvents } from '../../matrix/auth/auth-events.ts';
import { checkOutlier } from '../../matrix/pdu-checks.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { CITED } from '../../store/events/auth-events.ts';
import { lookAgainAt } from '../../store/events/corrections.ts';
import { awaitInTurn } from '../../store/events/left-out.ts';
import { readStandingOnGuesses } from '../../store/events/guessed-states.ts';
import { type OutlierVerdict, readPdus, recordOutlierVerdicts } from '../../store/events/pdus.ts';
import { type RoomStanding, readStanding } from '../../store/journal/rooms.ts';
import { type Sql } from '../../store/open-store.ts';
import { inPages } from '../../store/pages.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { OutlierTable } from './outlier-table.ts';

const CREATE = { type: 'm.room.create', stateKey: '' } as const;
/** Rows read at a time. */
const READ_EVENTS = 2_000;
/** Events judged before others get their turn: some 10 ms. */
const JUDGED_A_TURN = 1_000;
/** Verdicts in one statement. */
const RECORDED_AT_A_TIME = 20_000;
/** Views of cited events that are kept: of these few are cited by most. */
const VIEWS_MAX = 2_000;

interface JudgedOutliers {
  readonly outliers?: OutlierTable;
  readonly areCitedOnly?: boolean;
}

/**
 * Judges `eventIds`, all of them held, with the auth events that they cite among them. An event that cites an auth event we do not have is left `unjudged`: it is skipped,
 * neither accepted nor refused. Verdicts are stored, and are in the table returned.
 *
 * @param about.outliers those that have just come in, which are not read again
 * @param about.areCitedOnly nobody but who pushed what cites them has named them; else a resident has
 */
export async function judgeOutliers(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  eventIds: Iterable<EventId>,
  onProgress: () => void,
  { outliers = new OutlierTable(roomId, rules), areCitedOnly = false }: JudgedOutliers = {},
): Promise<OutlierTable> {
  const refused = await readUnread(sql, eventIds, { outliers, areCitedOnly }, onProgress);
  // A resident that names an event tells more of it than its place in a timeline whose state is not known yet, or guessed.
  const refusedByGuess = await readStandingOnGuesses(sql, roomId, areCitedOnly ? [] : refused);
  for (const eventId of refusedByGuess) {
    const row = outliers.ids.rowOf(eventId);
    if (row !== undefined) outliers.judge(row, 'waiting', outliers.authDepthAt(row));
  }

  const record = async (verdicts: readonly OutlierVerdict[]): Promise<void> => {
    const given = areCitedOnly ? verdicts.map(asCited) : verdicts;
    for (const eventId of await recordOutlierVerdicts(sql, roomId, given)) outliers.judgedByOthers.add(eventId);
    onProgress();
  };
  await record(await refuseOtherCreates(sql, roomId, outliers));
  for await (const verdicts of judgeLoaded(outliers, onProgress)) await record(verdicts);
  await awaitInTurn(sql, roomId, unjudgedIn(outliers), (eventId) => lackingVerdicts(outliers, eventId));
  await lookAgainAt(
    sql,
    roomId,
    [...refusedByGuess].filter((eventId) => outliers.verdictOf(eventId) === 'accepted'),
  );
  onProgress();

  return outliers;
}

function asCited(verdict: OutlierVerdict): OutlierVerdict {
  return verdict.verdict === 'accepted' ? { ...verdict, rule: CITED } : verdict;
}

/** Reads what is held and not in the table yet, in pages; gives what stands rejected. */
async function readUnread(
  sql: Sql,
  eventIds: Iterable<EventId>,
  { outliers, areCitedOnly }: Required<JudgedOutliers>,
  onProgress: () => void,
): Promise<EventId[]> {
  const { roomId, rules } = outliers;
  const refused: EventId[] = [];
  function* unread(): Generator<EventId, void, undefined> {
    for (const eventId of eventIds) if (outliers.verdictOf(eventId) === undefined) yield eventId;
    for (const eventId of impliedAuthEvents(roomId, rules)) {
      if (outliers.verdictOf(eventId) === undefined) yield eventId;
    }
  }
  for (const page of inPages(unread(), READ_EVENTS)) {
    for (const row of await readPdus(sql, roomId, page)) {
      const { verdict, isProvisional, isCitedOnly, authDepth, nid, stateKeyNid, ...event } = row;
      const isWaiting = verdict === 'unjudged' || isProvisional || (isCitedOnly && !areCitedOnly);
      outliers.put({ event, verdict: isWaiting ? 'waiting' : verdict, authDepth, nid, stateKeyNid });
      if (verdict === 'rejected') refused.push(event.eventId);
    }
    onProgress();
  }
  return refused;
}

/** The create event of a room by where it stands; `undefined`: it has no state yet. */
export async function readCreateEventId(
  sql: Sql,
  room: Pick<RoomStanding, 'roomId' | 'currentState'> | undefined,
): Promise<EventId | undefined> {
  if (room === undefined || room.currentState === null) return undefined;
  const [own] = await readSnapshot(sql, room.roomId, room.currentState, { keys: [CREATE] });
  return own?.eventId;
}

/**
 * A room keeps the create event that we have joined it by. Another one passes by itself, and would be in the place of ours in any state that
 * names it, with all the rest of that state beyond its rules.
 */
async function refuseOtherCreates(sql: Sql, roomId: RoomId, outliers: OutlierTable): Promise<OutlierVerdict[]> {
  const unjudged = [...outliers.whole()].filter(
    ([row, { type }]) => type === CREATE.type && outliers.verdictAt(row) === 'waiting',
  );
  if (unjudged.length === 0) return [];
  const own = await readCreateEventId(sql, await readStanding(sql, roomId));
  if (own === undefined) return [];
  const others = unjudged.filter(([, { eventId }]) => eventId !== own);
  const reason = `the room was made by ${own}`;
  return others.map(([row, { eventId }]) => {
    outliers.judge(row, 'rejected', outliers.authDepthAt(row));
    return { eventId, verdict: 'rejected', authDepth: 0, rule: 'create-twice', reason, nid: outliers.nidAt(row) };
  });
}

/**
 * Judges those of the events that wait for a verdict, by the others, and gives the verdicts in parts, auth events before what cites
 * them. What cannot be judged is `unjudged` in the table.
 */
export async function* judgeLoaded(
  outliers: OutlierTable,
  onProgress: () => void,
): AsyncGenerator<readonly OutlierVerdict[], void, undefined> {
  const { rules } = outliers;
  let verdicts: OutlierVerdict[] = [];
  // Most events cite a few that all others do.
  const views = new Map<number, Pdu>();
  const viewOf = (row: number): Pdu => {
    const known = views.get(row);
    if (known !== undefined) return known;
    const view = outliers.viewAt(row);
    if (views.size >= VIEWS_MAX) views.clear();
    views.set(row, view);
    return view;
  };
  const judge = (row: number): void => {
    const leaveUnjudged = (): void => outliers.judge(row, 'unjudged', outliers.authDepthAt(row));
    const authEvents: Pdu[] = [];
    const rejected: EventId[] = [];
    let authDepth: number | null = 0;
    for (const cited of outliers.authEventsAt(row)) {
      const verdict = outliers.verdictAt(cited);
      if (verdict === undefined || verdict === 'unjudged' || verdict === 'open') {
        leaveUnjudged();
        return;
      }
      const view = viewOf(cited);
      authEvents.push(view);
      if (verdict === 'rejected') rejected.push(view.eventId);
      const depth = outliers.authDepthAt(cited);
      authDepth = authDepth === null || depth === null ? null : Math.max(authDepth, depth + 1);
    }
    const event = outliers.viewAt(row);
    const outcome = checkOutlier({ event, rules, authEvents, isRejected: (id) => rejected.includes(id) });
    if (outcome.outcome === 'drop') {
      leaveUnjudged();
      return;
    }
    const verdict = outcome.outcome === 'accept' ? 'accepted' : 'rejected';
    outliers.judge(row, verdict, authDepth);
    verdicts.push({
      eventId: event.eventId,
      verdict,
      authDepth,
      nid: outliers.nidAt(row),
      ...(outcome.outcome === 'accept' ? {} : { rule: outcome.rule, reason: outcome.reason }),
    });
  };

  // Depth first over auth events with a stack of our own: a hostile chain is as deep as it likes. An event met again while
  // it is still open is part of a cycle (possible in versions 1 and 2 only) and counts as unjudged for who cites it.
  let judgedThisTurn = 0;
  for (const root of outliers.rowsWith('waiting')) {
    if (++judgedThisTurn >= JUDGED_A_TURN) {
      judgedThisTurn = 0;
      onProgress();
      await turn();
    }
    const stack = [root];
    for (let row = stack.at(-1); row !== undefined; row = stack.at(-1)) {
      if (outliers.verdictAt(row) === 'waiting') {
        outliers.judge(row, 'open', outliers.authDepthAt(row));
        for (const cited of outliers.authEventsAt(row)) if (outliers.verdictAt(cited) === 'waiting') stack.push(cited);
        if (stack.at(-1) !== row) continue;
      }
      if (outliers.verdictAt(row) === 'open') judge(row);
      stack.pop();
    }
    if (verdicts.length >= RECORDED_AT_A_TIME) {
      yield verdicts;
      verdicts = [];
    }
  }
  if (verdicts.length > 0) yield verdicts;
}

/** Events that could not be judged. */
export function* unjudgedIn(outliers: OutlierTable): Generator<EventId, void, undefined> {
  for (const row of outliers.rowsWith('unjudged')) yield outliers.ids.idOf(row);
}

/** The auth events without a verdict, of one that could not be judged: they are not here, or lack others in turn; none of any other. */
function lackingVerdicts(outliers: OutlierTable, eventId: EventId): EventId[] {
  if (outliers.verdictOf(eventId) !== 'unjudged') return [];
  const hasVerdict = (cited: EventId): boolean =>
    ['accepted', 'rejected'].includes(outliers.verdictOf(cited) ?? 'unjudged');
  return outliers.authEventsOf(eventId).filter((cited) => !hasVerdict(cited));
}

/** Auth events that have no verdict, and for want of which others are not judged. */
export function awaitedBy(outliers: OutlierTable): EventId[] {
  const awaited = new Set<EventId>();
  for (const eventId of unjudgedIn(outliers)) {
    for (const cited of lackingVerdicts(outliers, eventId)) awaited.add(cited);
  }
  return [...awaited];
}
