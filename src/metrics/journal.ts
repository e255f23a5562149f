/**
 * Counts what was decided about rooms, from the journal itself: each entry once, by the process that wrote it, when it is
 * durable. So a repeated activity counts nothing twice, and no use case knows that it is counted.
 */
import { LRUCache } from 'lru-cache';
import { type Journalled, type ResyncEvent, type TimelineEvent } from '../resync/events.ts';
import { type ResyncState } from '../resync/state.ts';
import { type Appended } from '../store/open-store.ts';
import { type Instruments, type ResyncOutcome, type StateFetchOutcome } from './instruments.ts';

/**
 * Attempts whose start is remembered: far more than one process works at. One that another process ends, after ours was
 * killed or the other way round, is counted, and its time is not known.
 */
const ATTEMPTS_MAX = 10_000;

/** What `StoreOptions.onAppended` is told. */
export function countJournal(instruments: Instruments): (appended: Appended) => void {
  const startedAt = new LRUCache<string, number>({ max: ATTEMPTS_MAX });

  const ended = (attempt: string, outcome: StateFetchOutcome, at: number): void => {
    const since = startedAt.get(attempt);
    startedAt.delete(attempt);
    instruments.stateFetches.inc({ outcome });
    if (outcome === 'fetched' && since !== undefined) instruments.stateFetchSeconds.observe(secondsBetween(since, at));
  };

  const count = (event: ResyncEvent, room: string, resync: ResyncState): void => {
    switch (event.type) {
      case 'StateFetchStarted':
        startedAt.set(`${room} ${event.attemptNo}`, event.at);
        break;
      case 'StateFetched':
        ended(`${room} ${event.attemptNo}`, 'fetched', event.at);
        instruments.unusableEvents.inc(event.counts.unusable?.count ?? 0);
        break;
      case 'StateFetchFailed':
        ended(`${room} ${event.attemptNo}`, event.failure, event.at);
        break;
      // That it was open is counted as a row, with its age.
      case 'GapClosed':
        instruments.unusableEvents.inc(event.counts.unusable?.count ?? 0);
        break;
      case 'RoundFailed':
        instruments.roundsFailed.inc();
        break;
      case 'EventsWalked':
        instruments.walkedEvents.inc(event.walked);
        instruments.correctedEvents.inc(event.corrected);
        break;
      // What it found is counted event by event.
      case 'Check6Replayed':
        break;
      case 'EventsCorrected':
        instruments.changedEvents.inc(event.changed);
        break;
      case 'ResyncCompleted': {
        const whole: ResyncOutcome = resync.lastFailure === null ? 'straight' : 'retried';
        const outcome = event.lacking === undefined ? whole : 'degraded';
        if (resync.joinedAt !== null) {
          instruments.resyncSeconds.observe({ outcome }, secondsBetween(resync.joinedAt, event.at));
        }
        break;
      }
      // The attempt is counted at its end.
      case 'StateFetchHindered':
      // Rooms that wait or are parked are counted as rows.
      case 'ResidentBack':
      case 'RoomOrphaned':
      case 'ResyncParked':
      case 'ResyncResumed':
      // A join is counted where it is asked for, with how long it took.
      case 'PartialStateJoined':
      case 'FullStateJoined':
      case 'RoomCreated':
      case 'ResidentsLearned':
      case 'ParentsLearned':
      // Gaps are counted as rows, open ones with their age.
      case 'GapOpened':
      case 'GapFilled':
      case 'GapGivenUp':
      case 'GapsAssumed':
      // How a stay ended is no number of a resync.
      case 'JoinRejected':
      case 'JoinRestored':
      case 'EverybodyLeft':
      case 'StayEnded':
      case 'RoomPurged':
      case 'LeftSilently':
      case 'SilentLeaveSettled':
      case 'SpeakersLearned':
      // What a person has decided is no number either.
      case 'ResidentPinned':
      case 'PinLifted':
      case 'ResidentBanned':
      case 'BanLifted':
      case 'RoomPolicySet':
      case 'CommandRefused':
      // What it leads to is counted.
      case 'AnchorCorrected':
      // Events that are missing are counted as rows, with their age.
      case 'MissingSought':
        break;
    }
  };

  const countVerdict = (event: TimelineEvent): void => {
    if (event.type === 'EventSoftFailed') instruments.softFailedEvents.inc({ found: 'completion' });
    if (event.type === 'PduAccepted' && event.softFailed) instruments.softFailedEvents.inc({ found: 'receipt' });
  };

  return ({ entries, resync }) => {
    for (const entry of entries) {
      if (!isControl(entry)) countVerdict(entry.event as TimelineEvent);
      else if (resync !== null) count(entry.event, `${entry.roomId} ${entry.epoch}`, resync);
    }
  };
}

function isControl(entry: Journalled): entry is Journalled<ResyncEvent> {
  return entry.stream === 'resync';
}

/** Clocks of two machines may differ by more than an attempt takes. */
function secondsBetween(from: number, to: number): number {
  return Math.max(0, to - from) / 1000;
}
