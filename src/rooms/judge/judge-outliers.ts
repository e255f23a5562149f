/**
 * Judges events that were fetched as state or auth chain, and have no place in the timeline: check 4 alone, each against
 * its own auth events, auth events first. Verdicts are kept, so a second run after a kill costs reading only.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { authEventIdsOf, impliedAuthEvents } from '../../matrix/auth/auth-events.ts';
import { checkOutlier } from '../../matrix/pdu-checks.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { lookAgainAt } from '../../store/events/corrections.ts';
import { awaitInTurn } from '../../store/events/left-out.ts';
import { readStandingOnGuesses } from '../../store/events/guessed-states.ts';
import { type OutlierVerdict, recordOutlierVerdicts, streamPdus } from '../../store/events/pdus.ts';
import { type RoomStanding, readStanding } from '../../store/journal/rooms.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type AuthViews, createAuthViews } from './auth-view.ts';

const CREATE = { type: 'm.room.create', stateKey: '' } as const;
/** Rows read at a time. */
const READ_EVENTS = 2_000;
/** Events judged before others get their turn: some 10 ms. */
const JUDGED_A_TURN = 1_000;

export type JudgedOutlier = 'accepted' | 'rejected' | 'unjudged';

/** An event with the verdict on it; one record each, since a big room has hundreds of thousands. */
export interface Outlier {
  /** What auth rules read of it (auth-view.ts). */
  readonly event: Pdu;
  /** `open`: being judged. */
  verdict: JudgedOutlier | 'open' | 'waiting';
  /** Greater than that of every event in its auth chain; `null`: not known, or not yet. */
  authDepth: number | null;
  /** The numbers of the event and of its place in a state (`null`: it has none), as far as they are known here. */
  nid: number | undefined;
  stateKeyNid: number | null | undefined;
}

/** Events by id, those that have just come in: they are not read again. Judging adds what it reads, and the verdicts. */
export interface Outliers {
  readonly views: AuthViews;
  readonly byId: Map<EventId, Outlier>;
  /** Somebody else gave them a verdict meanwhile, which stands: maybe another one. */
  readonly judgedByOthers: Set<EventId>;
}

/**
 * Judges `eventIds`, all of them held, with the auth events that they cite among them. An event that cites an auth event we do not have is left `unjudged`: it is skipped,
 * neither accepted nor refused. Verdicts are stored, and are in the records returned.
 */
export async function judgeOutliers(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  eventIds: readonly EventId[],
  onProgress: () => void,
  { views, byId, judgedByOthers }: Outliers = {
    views: createAuthViews(roomId, rules),
    byId: new Map(),
    judgedByOthers: new Set(),
  },
): Promise<ReadonlyMap<EventId, Outlier>> {
  const wanted = new Set([...eventIds, ...impliedAuthEvents(roomId, rules)]);
  const unread = [...wanted].filter((eventId) => !byId.has(eventId));
  const refused: EventId[] = [];
  for await (const batch of streamPdus(sql, roomId, unread, READ_EVENTS)) {
    for (const { verdict, isProvisional, authDepth, nid, ...row } of batch) {
      byId.set(row.eventId, {
        event: views.view(row),
        verdict: verdict === 'unjudged' || isProvisional ? 'waiting' : verdict,
        authDepth,
        nid,
        stateKeyNid: undefined,
      });
      if (verdict === 'rejected') refused.push(row.eventId);
    }
    onProgress();
  }
  // Who names an event tells more of it than its place in a timeline whose state is not known yet, or guessed.
  const refusedByGuess = await readStandingOnGuesses(sql, roomId, refused);
  for (const eventId of refusedByGuess) {
    const outlier = byId.get(eventId);
    if (outlier !== undefined) outlier.verdict = 'waiting';
  }

  const creates = await refuseOtherCreates(sql, roomId, byId);
  const judged = await judgeLoaded(byId, rules, onProgress);
  const others = await recordOutlierVerdicts(sql, roomId, [...creates, ...judged]);
  await awaitInTurn(sql, roomId, lackingVerdicts(byId, rules));
  for (const eventId of others) judgedByOthers.add(eventId);
  await lookAgainAt(
    sql,
    roomId,
    [...refusedByGuess].filter((eventId) => byId.get(eventId)?.verdict === 'accepted'),
  );
  onProgress();

  return byId;
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
async function refuseOtherCreates(
  sql: Sql,
  roomId: RoomId,
  byId: ReadonlyMap<EventId, Outlier>,
): Promise<OutlierVerdict[]> {
  const unjudged = [...byId.values()].filter(
    ({ event, verdict }) => verdict === 'waiting' && event.type === CREATE.type,
  );
  if (unjudged.length === 0) return [];
  const own = await readCreateEventId(sql, await readStanding(sql, roomId));
  if (own === undefined) return [];
  const others = unjudged.filter(({ event }) => event.eventId !== own);
  for (const other of others) other.verdict = 'rejected';
  const reason = `the room was made by ${own}`;
  return others.map(({ event: { eventId }, nid }) => {
    return { eventId, verdict: 'rejected', authDepth: 0, rule: 'create-twice', reason, nid };
  });
}

/**
 * Judges those of the loaded events that wait for a verdict, by the others, and gives the verdicts, auth events before what cites
 * them. What cannot be judged is `unjudged` in its record.
 */
export async function judgeLoaded(
  byId: ReadonlyMap<EventId, Outlier>,
  rules: RoomVersionRules,
  onProgress: () => void,
): Promise<OutlierVerdict[]> {
  const verdicts: OutlierVerdict[] = [];
  const judge = (outlier: Outlier): JudgedOutlier => {
    const { event } = outlier;
    const authEvents: Pdu[] = [];
    let authDepth: number | null = 0;
    for (const id of authEventIdsOf(event, rules)) {
      const cited = byId.get(id);
      if (cited === undefined || cited.verdict === 'unjudged' || cited.verdict === 'open') return 'unjudged';
      authEvents.push(cited.event);
      authDepth = authDepth === null || cited.authDepth === null ? null : Math.max(authDepth, cited.authDepth + 1);
    }
    const isRejected = (id: EventId): boolean => byId.get(id)?.verdict === 'rejected';
    const outcome = checkOutlier({ event, rules, authEvents, isRejected });
    if (outcome.outcome === 'drop') return 'unjudged';
    outlier.authDepth = authDepth;
    const verdict = outcome.outcome === 'accept' ? 'accepted' : 'rejected';
    verdicts.push({
      eventId: event.eventId,
      verdict,
      authDepth,
      nid: outlier.nid,
      ...(outcome.outcome === 'accept' ? {} : { rule: outcome.rule, reason: outcome.reason }),
    });
    return verdict;
  };

  // Depth first over auth events with a stack of our own: a hostile chain is as deep as it likes. An event met again while
  // it is still open is part of a cycle (possible in versions 1 and 2 only) and counts as unjudged for who cites it.
  let judgedThisTurn = 0;
  for (const root of byId.values()) {
    if (++judgedThisTurn >= JUDGED_A_TURN) {
      judgedThisTurn = 0;
      onProgress();
      await turn();
    }
    const stack = [root];
    for (let outlier = stack.at(-1); outlier !== undefined; outlier = stack.at(-1)) {
      if (outlier.verdict === 'waiting') {
        outlier.verdict = 'open';
        for (const id of authEventIdsOf(outlier.event, rules)) {
          const cited = byId.get(id);
          if (cited?.verdict === 'waiting') stack.push(cited);
        }
        if (stack.at(-1) !== outlier) continue;
      }
      if (outlier.verdict === 'open') outlier.verdict = judge(outlier);
      stack.pop();
    }
  }
  return verdicts;
}

/** Of each event that could not be judged, the auth events that have no verdict: they are not here, or lack others in turn. */
function lackingVerdicts(
  judged: ReadonlyMap<EventId, Outlier>,
  rules: RoomVersionRules,
): ReadonlyMap<EventId, readonly EventId[]> {
  const hasVerdict = (eventId: EventId): boolean =>
    ['accepted', 'rejected'].includes(judged.get(eventId)?.verdict ?? '');
  const lacking = new Map<EventId, readonly EventId[]>();
  for (const [eventId, { event, verdict }] of judged) {
    if (verdict === 'unjudged') {
      lacking.set(
        eventId,
        authEventIdsOf(event, rules).filter((id) => !hasVerdict(id)),
      );
    }
  }
  return lacking;
}

/** Auth events that have no verdict, and for want of which others are not judged. */
export function awaitedBy(judged: ReadonlyMap<EventId, Outlier>, rules: RoomVersionRules): EventId[] {
  return [...new Set([...lackingVerdicts(judged, rules).values()].flat())];
}
