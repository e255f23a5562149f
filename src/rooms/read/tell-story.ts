/** What is known of one event, put together and told in sentences. Pure; names and reasons in them are a stranger's words. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { explainEntry } from '../../resync/explain-entry.ts';
import { isoTime } from '../../resync/explain.ts';
import { type Parent } from '../../store/events/anchors.ts';
import {
  DEPENDANTS_COUNTED_MAX,
  type Dependants,
  type EventFacts,
  type MissingHere,
  type StagedCopy,
} from '../../store/events/event-story.ts';
import { type Gap } from '../../store/events/gaps.ts';
import { type StoredPdu } from '../../store/events/pdus.ts';
import { type Correction, type EventStory, type Turned, type Witness } from '../contract.ts';

export interface StoryFacts {
  readonly eventId: EventId;
  readonly roomId: RoomId;
  readonly pdu: StoredPdu | undefined;
  readonly facts: EventFacts | undefined;
  readonly history: readonly Correction[];
  readonly causes: readonly Correction[];
  readonly copies: readonly StagedCopy[];
  readonly gap: Gap | undefined;
  readonly anchor: Parent | undefined;
  readonly missing: MissingHere | undefined;
  readonly dependants: { readonly children: Dependants; readonly citing: Dependants };
  readonly judgedBy: readonly Witness[];
  /** What stands at its place in the current state; `null`: nothing; `undefined`: it has no place there. */
  readonly inCurrentState: EventId | null | undefined;
}

/** The story, with its sentences in the order in which things happened. */
export function tellStory(known: StoryFacts): EventStory {
  const { eventId, roomId, pdu, facts, history, causes, judgedBy } = known;
  const isTaken = facts !== undefined && facts.position !== null;
  // One that was soft-failed and rejected later is rejected: that says more.
  const isSoftFailed = facts?.softFailed === true && pdu?.verdict !== 'rejected';
  const verdict = isSoftFailed ? 'soft-failed' : (pdu?.verdict ?? 'unjudged');
  const isProvisional = facts?.partial === true;
  return {
    ...{ eventId, roomId, verdict, isProvisional, judgedBy, history, causes },
    place: placeOf(known, isTaken),
    event:
      pdu === undefined
        ? null
        : {
            ...{ type: pdu.type, stateKey: pdu.stateKey, sender: pdu.sender, membership: pdu.membership },
            ...{ prevEvents: pdu.prevEvents, authEvents: pdu.authEvents },
          },
    lines: [
      whatItIs(known),
      ...receipt(known),
      ...standing(known, verdict, isTaken),
      ...(judgedBy.length === 0 ? [] : [`It is judged by: ${judgedBy.map(named).join('; ')}.`]),
      ...history.flatMap((correction) => told(correction, eventId)),
      ...causes.map(({ entry, turned }) => {
        return `  because (${isoTime(entry.recordedAt)}): ${explainEntry(entry.event)}${turnedWords(turned)}.`;
      }),
      ...whereItIs(known, verdict),
      ...dependantWords(known),
    ],
  };
}

function placeOf({ pdu, gap, anchor, copies, missing }: StoryFacts, isTaken: boolean): EventStory['place'] {
  if (isTaken) return 'timeline';
  if (gap !== undefined) return 'gap';
  if (anchor !== undefined) return 'anchor';
  if (copies.some(({ droppedAt }) => droppedAt === null)) return 'staged';
  if (pdu !== undefined) return 'outlier';
  if (copies.length > 0) return 'given-up';
  return missing === undefined ? 'cited' : 'missing';
}

function whatItIs({ eventId, roomId, pdu, facts }: StoryFacts): string {
  if (pdu === undefined) return `${eventId} is not held; events of ${roomId} have to do with it.`;
  const { type, stateKey, membership, sender, hollow } = pdu;
  const place = stateKey === null ? '' : ` for ${stateKey === '' ? 'the room' : stateKey}`;
  const what = membership === null ? type : `${type} (${membership})`;
  const was = facts?.completedAt;
  const kept = hollow
    ? ' It is kept redacted, since its content hash is wrong.'
    : was == null
      ? ''
      : ` It was kept redacted until ${isoTime(was)}, when the body came that its content hash is of; what was judged by it until then was looked at again.`;
  return `${eventId} is a ${what}${place} of ${sender} in ${roomId}.${kept}`;
}

function receipt({ facts, history, copies }: StoryFacts): string[] {
  const from = history.flatMap(({ entry: { event } }) =>
    (event.type === 'PduAccepted' || event.type === 'PduRejected') && event.from !== undefined ? [event.from] : [],
  );
  const lines = from.map(({ server, at }) => `It came from ${server} at ${isoTime(at)}.`);
  if (lines.length === 0 && facts !== undefined) {
    lines.push(`It is stored since ${isoTime(facts.storedAt)}; from whom it came is not kept.`);
  }
  for (const { origin, receivedAt, waitsFor, reason, droppedAt } of copies) {
    const why = reason === null ? '' : `: ${reason}`;
    const waits = waitsFor.length === 0 ? '' : `, for ${waitsFor.slice(0, 3).join(', ')}`;
    lines.push(
      droppedAt === null
        ? `${origin} sent it at ${isoTime(receivedAt)}, and it waits${waits}${why}.`
        : `${origin} sent it at ${isoTime(receivedAt)}, and it was given up at ${isoTime(droppedAt)}${why}.`,
    );
  }
  return lines;
}

function standing(known: StoryFacts, verdict: EventStory['verdict'], isTaken: boolean): string[] {
  const { facts, pdu, gap, anchor, missing } = known;
  const lines: string[] = [];
  const why = facts?.reason == null ? '' : `: ${facts.reason} (${facts.rule ?? 'no rule'})`;
  if (isTaken) {
    const full = facts?.partial === true ? 'provisionally, by the state that is known so far' : 'by the full state';
    lines.push(`It is ${verdict}, ${full}${why}.`);
  } else if (pdu !== undefined) {
    const judged =
      verdict === 'unjudged' ? 'has no verdict yet, and proves nothing' : `is ${verdict} by its own auth events`;
    lines.push(`It is held as part of a state or an auth chain, not of the timeline; it ${judged}${why}.`);
  }
  if (gap !== undefined) {
    const next = gap.wakeAt === null ? 'it was given up' : `it is tried next at ${isoTime(gap.wakeAt)}`;
    const last = gap.lastReason === null ? '' : `; the last time: ${gap.lastReason}`;
    lines.push(
      `There is a gap at it: an event of ${gap.origin} cites it, and nobody gave us what lies before. The state there was asked for ${gap.attempts} times since ${isoTime(gap.openedAt)}, and ${next}${last}.`,
    );
  }
  if (anchor !== undefined) {
    // As long as there is a gap at it, a full state there is one that nobody has told.
    const given = gap === undefined ? 'the one a resident gave' : 'assumed, since nobody has told it';
    const state = anchor.partial ? 'provisional until a resident gives it' : given;
    lines.push(`The graph that is held begins at it: the state after it is ${state}.`);
  }
  if (missing !== undefined) {
    const asked = missing.askedOf.length === 0 ? 'nobody' : missing.askedOf.join(', ');
    const found = missing.foundAt === null ? '' : `; it was found at ${isoTime(missing.foundAt)}`;
    lines.push(`A state lacks it since ${isoTime(missing.since)} (${missing.why}), in answers of ${asked}${found}.`);
  }
  return lines;
}

/** An entry of the event's own history; the first verdict is told with when it was made. */
function told({ entry, turned }: Correction, eventId: EventId): string[] {
  const sentence =
    entry.event.type === 'StatesChanged'
      ? 'it keeps its verdict, and the states before and after it are others now, since what it rests on has changed'
      : explainEntry(entry.event).replace(`${eventId} `, 'it ');
  return [`${isoTime(entry.recordedAt)}: ${sentence}${turnedWords(turned)}.`];
}

const named = ({ says, eventId }: Witness): string => `${says} (${eventId})`;

/** What the verdict before rested on, of those places that turned out otherwise. */
function turnedWords(turned: readonly Turned[]): string {
  const words = turned.flatMap(({ was, is }) => {
    if (was !== null && is !== null) return [`before, ${named(was)}; in truth, ${named(is)}`];
    if (is !== null) return [`before, it was not known that ${named(is)}`];
    return was === null ? [] : [`before, ${named(was)}; in truth, nothing stands there`];
  });
  return words.length === 0 ? '' : `. What turned out otherwise: ${words.join('; ')}`;
}

function whereItIs({ eventId, inCurrentState, facts }: StoryFacts, verdict: EventStory['verdict']): string[] {
  const lines: string[] = [];
  if (facts?.isExtremity === true) lines.push('It is one of the newest events of the room.');
  if (inCurrentState === undefined) return lines;
  if (inCurrentState === eventId) {
    lines.push('It is in the current state.');
  } else if (inCurrentState === null) {
    lines.push('Nothing stands at its place in the current state.');
  } else {
    const but = verdict === 'accepted' ? '' : ', for it is no part of any state';
    lines.push(`At its place in the current state stands ${inCurrentState}${but}.`);
  }
  return lines;
}

function dependantWords({ dependants: { children, citing } }: StoryFacts): string[] {
  const count = ({ count: n }: Dependants): string => (n >= DEPENDANTS_COUNTED_MAX ? `${n} or more` : String(n));
  const words: string[] = [];
  if (children.count > 0) words.push(`${count(children)} come next after it (${children.first.join(', ')})`);
  if (citing.count > 0) words.push(`${count(citing)} cite it as an auth event (${citing.first.join(', ')})`);
  return words.length === 0 ? ['No event depends on it.'] : [`Of other events ${words.join(', and ')}.`];
}
