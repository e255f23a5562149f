/**
 * The states at anchors follow the verdicts on the events that a resident's answer names: what is rejected now is taken out, and
 * what is accepted now, for another verdict or because it was found, gets its place, where nothing else has it.
 */
import { type EventId } from '../../matrix/identifiers.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { type FullAnchor, readFullAnchors } from '../../store/events/anchors.ts';
import { type Judgement, readJudgements } from '../../store/events/auth-events.ts';
import { type CorrectionCause, settleAnchorsOf } from '../../store/events/corrections.ts';
import { readLeftOut } from '../../store/events/left-out.ts';
import { readEntryTypes } from '../../store/journal/journal.ts';
import { type TrieChange, type TrieKey } from '../../store/snapshots/snapshot-trie.ts';
import { changePlaces, lookUpPlaces } from '../../store/snapshots/snapshots-in-numbers.ts';
import { loadAuthEvents } from '../judge/auth-events.ts';
import { type Correcting, commitCorrections } from './correction-step.ts';

/** Anchors looked at together; a room has one a join and one a gap. */
const ANCHORS_AT_ONCE = 100;

type AnchorCorrected = Extract<ResyncEvent, { type: 'AnchorCorrected' }>;

/** Entries by which an event that had been judged got another verdict. */
const FLIPS: ReadonlySet<string | undefined> = new Set(['VerdictChanged', 'EventUnPartialStated']);

/** A state event that changed, with the verdict on it as it is now. */
interface Changed {
  readonly eventId: EventId;
  readonly nid: number;
  readonly key: TrieKey;
  readonly verdict: Judgement['verdict'];
  readonly cause: number;
  /** It had no verdict before: it was missing, or waited for what was. */
  readonly isFound: boolean;
}

/** Brings the states at all anchors of the room up to these changes; `false`: somebody else came in between. */
export async function correctAnchors(correcting: Correcting, causes: readonly CorrectionCause[]): Promise<boolean> {
  const { context, roomId, progress } = correcting;
  const { store } = context;
  const changed = await readChanged(correcting, causes);
  const anchors = changed.length === 0 ? [] : await readFullAnchors(store, roomId);
  const leftOut = await readLeftOut(
    store,
    roomId,
    changed.map(({ eventId }) => eventId),
  );
  const keys = new Set(changed.map(({ key }) => key));
  const corrected: AnchorCorrected[] = [];
  for (let start = 0; start < anchors.length; start += ANCHORS_AT_ONCE) {
    progress.heartbeat();
    const some = anchors.slice(start, start + ANCHORS_AT_ONCE);
    const wanted = some.map(({ stateAfter }) => ({ snapshot: stateAfter, keys }));
    const states = await lookUpPlaces(store, roomId, wanted);
    for (const [i, anchor] of some.entries()) {
      const difference = differenceAt(changed, states[i] ?? new Map(), leftOut.get(anchor.eventId));
      if (difference.putIn.length + difference.takenOut.length === 0) continue;
      corrected.push(await correctedAnchor(correcting, anchor, difference));
    }
  }
  return commitCorrections(correcting, async (tx) => {
    await settleAnchorsOf(tx, roomId, causes);
    return corrected;
  });
}

/** The state events among what changed. */
async function readChanged(
  { context, roomId, rules }: Correcting,
  causes: readonly CorrectionCause[],
): Promise<Changed[]> {
  const { store } = context;
  const eventIds = causes.map(({ eventId }) => eventId);
  const loaded = await loadAuthEvents(store, roomId, rules, { eventIds });
  const judgements = await readJudgements(store, roomId, eventIds);
  const types = await readEntryTypes(
    store,
    causes.map(({ cause }) => cause),
  );
  const byId = new Map(causes.map((cause) => [cause.eventId, cause]));
  return loaded.flatMap((event) => {
    const { key, pdu } = event;
    const cause = byId.get(pdu.eventId)?.cause;
    const judgement = judgements.get(pdu.eventId);
    if (key === null || cause === undefined || judgement === undefined) return [];
    const isFound = !FLIPS.has(types.get(cause));
    return [{ nid: judgement.nid, key, eventId: pdu.eventId, verdict: judgement.verdict, cause, isFound }];
  });
}

interface Difference {
  readonly putIn: readonly Changed[];
  readonly takenOut: readonly Changed[];
}

/** What these changes mean for one state. Of two events that both name one place, the one that has it keeps it. */
function differenceAt(
  changed: readonly Changed[],
  state: ReadonlyMap<TrieKey, number>,
  leftOut: ReadonlySet<EventId> | undefined,
): Difference {
  const takenOut = changed.filter(({ key, nid, verdict }) => verdict !== 'accepted' && state.get(key) === nid);
  const taken = new Set(state.keys());
  for (const { key } of takenOut) taken.delete(key);
  const putIn: Changed[] = [];
  for (const event of changed) {
    if (event.verdict !== 'accepted' || leftOut?.has(event.eventId) !== true || taken.has(event.key)) continue;
    taken.add(event.key);
    putIn.push(event);
  }
  return { putIn, takenOut };
}

async function correctedAnchor(
  { context, roomId }: Correcting,
  { eventId, stateAfter: was }: FullAnchor,
  { putIn, takenOut }: Difference,
): Promise<AnchorCorrected> {
  const changes = new Map<TrieKey, TrieChange>(takenOut.map(({ key }) => [key, { key, value: null }]));
  for (const { key, nid } of putIn) changes.set(key, { key, value: nid });
  const snapshotId = await changePlaces(context.store, roomId, was, [...changes.values()]);
  const isFound = takenOut.length === 0 && putIn.every((event) => event.isFound);
  return {
    type: 'AnchorCorrected',
    ...{ eventId, was, snapshotId },
    because: isFound ? 'found' : 'verdict-changed',
    putIn: putIn.map((event) => event.eventId),
    takenOut: takenOut.map((event) => event.eventId),
    cause: Math.max(...[...putIn, ...takenOut].map(({ cause }) => cause)),
    at: context.clock.now(),
  };
}
