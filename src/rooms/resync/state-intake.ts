/**
 * Takes in the events of a resident's answer as they arrive: checks 1 to 3 in worker threads, then the store, in bounded
 * memory; the socket is read only as fast as the database takes it. What is held, or was not asked for, is neither
 * verified nor written. Of each event what judging needs is kept, in columns (../judge/outlier-table.ts).
 */
import { FederationError } from '../../federation/error.ts';
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { insertPdus } from '../../store/events/pdus.ts';
import { type CheckOutcome, type CheckedPdu } from '../../verification/contract.ts';
import { checkEvents } from '../judge/check-events.ts';
import { type RoomsContext } from '../context.ts';
import { type FetchNumbers } from './fetch-progress.ts';
import { type WantedEvents } from './wanted-events.ts';
import { OutlierTable } from '../judge/outlier-table.ts';
import { createLanes } from '../lanes.ts';

/** Batches of raw events between the socket and the database, each some 400 events being checked or stored. */
const BATCHES_IN_FLIGHT = 6;
/**
 * Events are stored so many at a time: smaller writes cost more each, bigger ones are no quicker. Where a body comes so slowly
 * that nothing else is being checked, what there is is stored at once: a kill must not cost what took minutes to come.
 */
const STORED_EVENTS = 2_000;
/** An event stands in an answer twice at the most, as state and as auth event; more are padding. */
const RECEIVED_FOR_EACH_WANTED_MAX = 2;
/** Characters of power level and other events that are kept whole for judging: far more than any honest room has. */
const WHOLE_CHARACTERS_MAX = 64 * 1024 * 1024;

export interface Progress {
  readonly signal: AbortSignal;
  /** Says that work goes on, and how far it is where that is known. */
  readonly heartbeat: (numbers?: FetchNumbers) => void;
  /** Whether an aborted signal is a shutdown or a command, and no sign of trouble; absent: it is. */
  readonly isOrderly?: () => boolean;
}

export interface WantedState {
  readonly roomId: RoomId;
  readonly resident: ServerName;
  readonly rules: RoomVersionRules;
  readonly wanted: WantedEvents;
  readonly progress: Progress;
  /** Events were stored that had not been there. */
  readonly onStored: () => Promise<void>;
}

/** Raw events, one JSON text each. */
export interface RawBatch {
  readonly events: readonly Uint8Array[];
}

export interface StateIntake {
  /** Takes in a whole body, asked for with the signal given. Throws its error, or the first failure of a batch. */
  takeStream(ask: (signal: AbortSignal) => Promise<AsyncIterable<RawBatch>>): Promise<void>;
  /** Takes in a few events; they are stored when this returns. */
  take(events: readonly Uint8Array[]): Promise<void>;
  /** Of what was taken in; judging adds the rest. */
  readonly outliers: OutlierTable;
  /** Events taken in. */
  fetched(): number;
}

/** The intake of one attempt: what `state.wanted` names and nothing else, from one resident. */
export function createStateIntake(context: RoomsContext, state: WantedState): StateIntake {
  const { roomId, resident, rules, wanted, progress } = state;
  /** Taken in, as judging needs them. */
  const outliers = new OutlierTable(roomId, rules, wanted.ids);
  let unstored: CheckedPdu[] = [];
  let fetched = 0;
  let stored = 0;
  let bytes = 0;

  const keep = (pdu: CheckedPdu): void => {
    outliers.put({ event: pdu, verdict: 'waiting', authDepth: null });
    if (outliers.wholeCharacters() > WHOLE_CHARACTERS_MAX) {
      throw new FederationError(
        resident,
        'too-large',
        `the power levels and join rules of the state and its auth chain are over ${WHOLE_CHARACTERS_MAX} characters`,
      );
    }
    unstored.push(pdu);
    fetched += 1;
    wanted.take(pdu.eventId);
  };

  const sort = (outcome: CheckOutcome, server?: ServerName): void => {
    if (outcome.outcome === 'skipped') return;
    if (outcome.outcome !== 'passed') wanted.refuse(outcome, server);
    // The same event may stand in the state and in the auth chain, and be checked in two batches at a time.
    else if (!wanted.isIdle(outcome.pdu.eventId)) keep(outcome.pdu);
  };

  const tell = (): void => progress.heartbeat({ wanted: wanted.count, held: wanted.heldBefore + stored, bytes });

  const check = async (raw: readonly Uint8Array[], signal: AbortSignal, server?: ServerName): Promise<void> => {
    for (const event of raw) bytes += event.length;
    const outcomes = await checkEvents(context, {
      roomId,
      rules,
      events: raw,
      isHeld: (ids) => Promise.resolve(new Set(ids.filter((id) => wanted.isIdle(id)))),
      // Old events may cite more parents than new ones are allowed to.
      capReferences: false,
      signal,
    });
    for (const outcome of outcomes) sort(outcome, server);
    tell();
  };

  const store = async (eventsMin: number): Promise<void> => {
    if (unstored.length === 0 || unstored.length < eventsMin) return;
    const batch = unstored;
    unstored = [];
    const inserted = await insertPdus(context.store, batch);
    for (const { eventId, nid, stateKeyNid } of inserted.numbers) {
      const row = outliers.ids.rowOf(eventId);
      if (row !== undefined) outliers.number(row, nid, stateKeyNid);
    }
    if (inserted.stored > 0) await state.onStored();
    stored += batch.length;
    tell();
  };

  return {
    async takeStream(ask) {
      const receivedMax = RECEIVED_FOR_EACH_WANTED_MAX * wanted.count;
      let received = 0;
      let underCheck = 0;
      const lanes = createLanes(BATCHES_IN_FLIGHT, progress.signal);
      try {
        for await (const batch of await ask(lanes.signal)) {
          received += batch.events.length;
          if (received > receivedMax) {
            throw new FederationError(
              resident,
              'too-large',
              `over ${receivedMax} events, for ${wanted.count} it named`,
            );
          }
          await lanes.start(async () => {
            underCheck += 1;
            await check(batch.events, lanes.signal, resident).finally(() => (underCheck -= 1));
            await store(underCheck === 0 ? 0 : STORED_EVENTS);
          });
        }
      } catch (error) {
        // What came before the body was cut is good, and is not asked for again.
        await lanes.drain().then(() => store(0));
        throw error;
      }
      await lanes.drain();
      await store(0);
    },
    async take(raw) {
      if (raw.length === 0) return;
      await check(raw, progress.signal);
      await store(0);
    },
    outliers,
    fetched: () => fetched,
  };
}
