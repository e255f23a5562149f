/**
 * Takes in the events of a resident's answer as they arrive: checks 1 to 3 in worker threads, then the store, in bounded
 * memory; the socket is read only as fast as the database takes it. What is held, or was not asked for, is neither
 * verified nor written. Of each event judging needs a few dozen bytes, and these are kept.
 */
import { FederationError } from '../../federation/error.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { insertPdus } from '../../store/events/pdus.ts';
import { type CheckOutcome, type CheckedPdu } from '../../verification/contract.ts';
import { checkEvents } from '../judge/check-events.ts';
import { createAuthViews } from '../judge/auth-view.ts';
import { type RoomsContext } from '../context.ts';
import { type FetchNumbers } from './fetch-progress.ts';
import { type Outlier, type Outliers } from '../judge/judge-outliers.ts';
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
/** An event of another room. No resident has a better copy, so it is dropped at once. */
const OTHER_ROOM = 'event.room';
/** Ids named in a failure reason. */
const IDS_NAMED_MAX = 3;

export interface Progress {
  readonly signal: AbortSignal;
  /** Says that work goes on, and how far it is where that is known. */
  readonly heartbeat: (numbers?: FetchNumbers) => void;
}

export interface WantedState {
  readonly roomId: RoomId;
  readonly resident: ServerName;
  readonly rules: RoomVersionRules;
  readonly wanted: ReadonlySet<EventId>;
  /** Those of the wanted ones that are stored with their body. */
  readonly held: ReadonlySet<EventId>;
  readonly progress: Progress;
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
  missing(): EventId[];
  /** Missing, because what came was badly signed. */
  badlySigned(): EventId[];
  /** Whose signature on a badly signed event was wrong: who to ask for a better one. */
  signerOf(eventId: EventId): ServerName | undefined;
  /** Goes on without what was badly signed or malformed. */
  dropUnusable(): void;
  /** What is missing and why, in words; `undefined`: nothing. */
  holes(): string | undefined;
  wantedIds(): EventId[];
  /** Of what was taken in; judging adds the rest. */
  outliers(): Outliers;
  /** Events taken in. */
  fetched(): number;
  /** Wanted, and gone on without. */
  dropped(): ReadonlySet<EventId>;
}

/** The intake of one attempt: what `state.wanted` names and nothing else, from one resident. */
export function createStateIntake(context: RoomsContext, state: WantedState): StateIntake {
  const { roomId, resident, rules, held, progress } = state;
  const wanted = new Set(state.wanted);
  const views = createAuthViews(roomId, rules);
  /** Taken in, as judging needs them. */
  const events = new Map<EventId, Outlier>();
  const badlySigned = new Map<EventId, ServerName>();
  const keysMissing = new Map<EventId, string>();
  const malformed = new Map<EventId, string>();
  const dropped = new Set<EventId>();
  let unstored: CheckedPdu[] = [];
  let fetched = 0;
  let stored = 0;
  let bytes = 0;

  const isAtHand = (eventId: EventId): boolean => held.has(eventId) || events.has(eventId);
  const missing = (): EventId[] => [...wanted].filter((eventId) => !isAtHand(eventId));
  /** Goes on without an event, and counts it. */
  const drop = (eventId: EventId): void => {
    if (wanted.delete(eventId)) dropped.add(eventId);
  };

  const keep = (pdu: CheckedPdu): void => {
    const event = views.view(pdu);
    events.set(event.eventId, { event, verdict: 'waiting', authDepth: null });
    if (views.wholeCharacters() > WHOLE_CHARACTERS_MAX) {
      throw new FederationError(
        resident,
        'too-large',
        `the power levels and join rules of the state and its auth chain are over ${WHOLE_CHARACTERS_MAX} characters`,
      );
    }
    unstored.push(pdu);
    fetched += 1;
    badlySigned.delete(pdu.eventId);
    keysMissing.delete(pdu.eventId);
    malformed.delete(pdu.eventId);
  };

  const sort = (outcome: CheckOutcome): void => {
    switch (outcome.outcome) {
      case 'passed':
        // The same event may stand in the state and in the auth chain, and be checked in two batches at a time.
        if (!isAtHand(outcome.pdu.eventId)) keep(outcome.pdu);
        return;
      case 'bad-signature':
        badlySigned.set(outcome.eventId, outcome.serverName);
        return;
      case 'key-missing':
        keysMissing.set(outcome.eventId, `${outcome.serverName} ${outcome.keyId ?? ''}`.trim());
        return;
      case 'malformed':
        if (outcome.eventId === null) return;
        if (outcome.rule === OTHER_ROOM) drop(outcome.eventId);
        else malformed.set(outcome.eventId, outcome.reason);
        return;
      case 'skipped':
        return;
    }
  };

  const tell = (): void => progress.heartbeat({ wanted: wanted.size, held: held.size + stored, bytes });

  const check = async (raw: readonly Uint8Array[], signal: AbortSignal): Promise<void> => {
    for (const event of raw) bytes += event.length;
    const outcomes = await checkEvents(context, {
      roomId,
      rules,
      events: raw,
      isHeld: (ids) => Promise.resolve(new Set(ids.filter((id) => isAtHand(id) || !wanted.has(id)))),
      // Old events may cite more parents than new ones are allowed to.
      capReferences: false,
      signal,
    });
    outcomes.forEach(sort);
    tell();
  };

  const store = async (eventsMin: number): Promise<void> => {
    if (unstored.length === 0 || unstored.length < eventsMin) return;
    const batch = unstored;
    unstored = [];
    await insertPdus(context.store, batch);
    stored += batch.length;
    tell();
  };

  return {
    async takeStream(ask) {
      const receivedMax = RECEIVED_FOR_EACH_WANTED_MAX * wanted.size;
      let received = 0;
      let underCheck = 0;
      const lanes = createLanes(BATCHES_IN_FLIGHT, progress.signal);
      try {
        for await (const batch of await ask(lanes.signal)) {
          received += batch.events.length;
          if (received > receivedMax) {
            throw new FederationError(resident, 'too-large', `over ${receivedMax} events, for ${wanted.size} it named`);
          }
          await lanes.start(async () => {
            underCheck += 1;
            await check(batch.events, lanes.signal).finally(() => (underCheck -= 1));
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
    missing,
    badlySigned: () => [...badlySigned.keys()],
    signerOf: (eventId) => badlySigned.get(eventId),
    dropUnusable() {
      for (const id of [...badlySigned.keys(), ...malformed.keys()]) if (!isAtHand(id)) drop(id);
    },
    holes: () => describeHoles(missing(), { badlySigned, keysMissing, malformed }),
    wantedIds: () => [...wanted],
    outliers: () => ({ views, byId: events }),
    fetched: () => fetched,
    dropped: () => dropped,
  };
}

interface Reasons {
  readonly badlySigned: ReadonlyMap<EventId, ServerName>;
  readonly keysMissing: ReadonlyMap<EventId, string>;
  readonly malformed: ReadonlyMap<EventId, string>;
}

function describeHoles(
  missing: readonly EventId[],
  { badlySigned, keysMissing, malformed }: Reasons,
): string | undefined {
  if (missing.length === 0) return undefined;
  const reasons: string[] = [];
  const keyless = missing.filter((id) => keysMissing.has(id));
  if (keyless.length > 0) {
    const servers = [...new Set(keyless.map((id) => keysMissing.get(id)))].slice(0, IDS_NAMED_MAX).join(', ');
    reasons.push(`${keyless.length} events signed with keys that cannot be had (${servers})`);
  }
  const wrong = missing.filter((id) => badlySigned.has(id));
  if (wrong.length > 0) reasons.push(`${wrong.length} events with a wrong signature (${named(wrong)})`);
  const misshapen = missing.find((id) => malformed.has(id));
  if (misshapen !== undefined) reasons.push(`malformed events (${misshapen}: ${malformed.get(misshapen) ?? ''})`);
  const absent = missing.filter((id) => !keysMissing.has(id) && !badlySigned.has(id) && !malformed.has(id));
  if (absent.length > 0) reasons.push(`${absent.length} events named but not delivered (${named(absent)})`);
  return reasons.join('; ');
}

function named(ids: readonly EventId[]): string {
  return `${ids.slice(0, IDS_NAMED_MAX).join(', ')}${ids.length > IDS_NAMED_MAX ? ', …' : ''}`;
}
