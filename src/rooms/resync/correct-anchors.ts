/**
 * The states at anchors follow the verdicts on the events that a resident's answer names: what is rejected now is taken out, and
 * what is accepted now, for another verdict or because it was found, gets its place, where nothing else has it.
 */
import { type EventId } from '../../matrix/identifiers.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { type FullAnchor, readFullAnchors } from '../../store/events/anchors.ts';
import { type Judgement, readJudgements } from '../../store/events/auth-events.ts';
import { settleAnchorsOf } from '../../store/events/corrections.ts';
import { type CorrectionCause } from '../../store/events/expand-causes.ts';
import { readLeftOut } from '../../store/events/left-out.ts';
import { readEntryTypes } from '../../store/journal/journal.ts';
import { type TrieChange, type TrieKey, stateKeyNidOf } from '../../store/snapshots/snapshot-trie.ts';
import { changePlaces, lookUpPlaces } from '../../store/snapshots/snapshots-in-numbers.ts';
import { loadAuthEvents } from '../judge/auth-events.ts';
import { type Correcting, commitCorrections } from './correction-step.ts';

/** Anchors looked at, and corrected, together: a room has one a join and one a gap, and strangers can open thousands of gaps. */
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

/**
 * Brings the states at all anchors of the room up to these changes, a few under the lock at a time; `false`: somebody else came in
 * between, and those that are left are still due.
 */
export async function correctAnchors(correcting: Correcting, causes: readonly CorrectionCause[]): Promise<boolean> {
  const { context, roomId, progress } = correcting;
  const { store } = context;
  const changed = await readChanged(correcting, causes);
  const leftOut = await readCandidates(correcting, changed);
  const anchors = changed.length === 0 ? [] : await readFullAnchors(store, roomId);
  const keys = new Set(changed.map(({ key }) => key));
  let at = correcting;
  for (let start = 0; ; start += ANCHORS_AT_ONCE) {
    progress.heartbeat();
    const some = anchors.slice(start, start + ANCHORS_AT_ONCE);
    const wanted = some.map(({ stateAfter }) => ({ snapshot: stateAfter, keys }));
    const states = wanted.length === 0 ? [] : await lookUpPlaces(store, roomId, wanted);
    const corrected: AnchorCorrected[] = [];
    for (const [i, anchor] of some.entries()) {
      const { eventId } = anchor;
      const difference = differenceAt(eventId, changed, states[i] ?? new Map(), leftOut.get(eventId) ?? []);
      if (difference.putIn.length + difference.takenOut.length === 0) continue;
      corrected.push(await correctedAnchor(correcting, anchor, states[i] ?? new Map(), difference));
    }
    const isLast = start + ANCHORS_AT_ONCE >= anchors.length;
    if (corrected.length === 0 && !isLast) continue;
    const isCommitted = await commitCorrections(at, async (tx) => {
      if (isLast) await settleAnchorsOf(tx, roomId, causes);
      return corrected;
    });
    if (isLast || !isCommitted) return isCommitted;
    // Each of the entries has moved it by one.
    at = { ...at, stateVersion: at.stateVersion + corrected.length };
  }
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
  return loaded.flatMap(({ key, pdu: { eventId } }) => {
    const cause = byId.get(eventId)?.cause;
    const judgement = judgements.get(eventId);
    if (key === null || cause === undefined || judgement === undefined) return [];
    const { nid, verdict } = judgement;
    return [{ eventId, nid, key, verdict, cause, isFound: !FLIPS.has(types.get(cause)) }];
  });
}

/** What the answers name at the places of what changed and the states lack: by anchor, in the order of ids. */
async function readCandidates(
  { context, roomId, rules }: Correcting,
  changed: readonly Changed[],
): Promise<Map<EventId, Changed[]>> {
  const { store } = context;
  const byKey = new Map(changed.map((event) => [event.key, event]));
  const rows = await readLeftOut(store, roomId, [...new Set([...byKey.keys()].map(stateKeyNidOf))]);
  const eventIds = [...new Set(rows.map(({ eventId }) => eventId))].sort();
  const judgements = await readJudgements(store, roomId, eventIds);
  const loaded = await loadAuthEvents(store, roomId, rules, { eventIds });
  const candidates = new Map<EventId, Changed>();
  for (const { key, pdu } of loaded) {
    const judgement = judgements.get(pdu.eventId);
    const beside = key === null ? undefined : byKey.get(key);
    if (beside === undefined || judgement?.verdict !== 'accepted') continue;
    candidates.set(pdu.eventId, { ...beside, eventId: pdu.eventId, nid: judgement.nid, verdict: judgement.verdict });
  }
  const byAnchor = new Map<EventId, Changed[]>();
  const leftOut = new Set(rows.map(({ anchorId, eventId }) => `${anchorId} ${eventId}`));
  for (const anchorId of new Set(rows.map((row) => row.anchorId))) {
    const some = eventIds.filter((eventId) => leftOut.has(`${anchorId} ${eventId}`));
    byAnchor.set(
      anchorId,
      some.flatMap((eventId) => candidates.get(eventId) ?? []),
    );
  }
  return byAnchor;
}

interface Difference {
  readonly putIn: readonly Changed[];
  readonly takenOut: readonly Changed[];
}

/**
 * What these changes mean for the state at one anchor. Of two events that an answer names for one place, the one that has it
 * keeps it; but the anchor's own event comes after all that the answer names.
 */
function differenceAt(
  anchorId: EventId,
  changed: readonly Changed[],
  state: ReadonlyMap<TrieKey, number>,
  leftOut: readonly Changed[],
): Difference {
  const takenOut = changed.filter(({ key, nid, verdict }) => verdict !== 'accepted' && state.get(key) === nid);
  const taken = new Set(state.keys());
  for (const { key } of takenOut) taken.delete(key);
  const putIn: Changed[] = [];
  const itself = leftOut.filter(({ eventId }) => eventId === anchorId);
  for (const event of [...itself, ...leftOut]) {
    if (taken.has(event.key) && event.eventId !== anchorId) continue;
    if (putIn.includes(event)) continue;
    taken.add(event.key);
    putIn.push(event);
  }
  return { putIn, takenOut };
}

async function correctedAnchor(
  { context, roomId, rules }: Correcting,
  { eventId, stateAfter: was }: FullAnchor,
  state: ReadonlyMap<TrieKey, number>,
  { putIn, takenOut }: Difference,
): Promise<AnchorCorrected> {
  const changes = new Map<TrieKey, TrieChange>(takenOut.map(({ key }) => [key, { key, value: null }]));
  for (const { key, nid } of putIn) changes.set(key, { key, value: nid });
  const snapshotId = await changePlaces(context.store, roomId, was, [...changes.values()]);
  // What the anchor's own event takes the place of is out until that event is, too.
  const gone = new Set(takenOut.map(({ nid }) => nid));
  const nids = putIn.flatMap(({ key }) => state.get(key) ?? []).filter((nid) => !gone.has(nid));
  const replaced = await loadAuthEvents(context.store, roomId, rules, { nids });
  const isFound = takenOut.length === 0 && putIn.every((event) => event.isFound);
  return {
    type: 'AnchorCorrected',
    ...{ eventId, was, snapshotId },
    because: isFound ? 'found' : 'verdict-changed',
    putIn: putIn.map((event) => event.eventId),
    takenOut: [...takenOut.map((event) => event.eventId), ...replaced.map(({ pdu }) => pdu.eventId)],
    cause: Math.max(...[...putIn, ...takenOut].map(({ cause }) => cause)),
    at: context.clock.now(),
  };
}
