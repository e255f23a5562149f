/** The search attributes of a room's run, kept true without writing them on every step. */
import { patched, upsertSearchAttributes } from '@temporalio/workflow';
import { type SearchAttributePair, defineSearchAttributeKey } from '@temporalio/common';
import { type GapsDue } from '../src/resync/next-action.ts';
import { shownPhase } from '../src/resync/state.ts';
import { type LoadedResync } from '../src/temporal/contract.ts';
import { SEARCH_ATTRIBUTES, waitersBand } from '../src/temporal/names.ts';

/** Visibility is written at most this often; the last value is always written before a wait or the close. */
const SEARCH_ATTRIBUTES_INTERVAL_MS = 10_000;

const phaseKey = defineSearchAttributeKey(SEARCH_ATTRIBUTES.phase, 'KEYWORD');
const residentKey = defineSearchAttributeKey(SEARCH_ATTRIBUTES.resident, 'KEYWORD');
const gapsKey = defineSearchAttributeKey(SEARCH_ATTRIBUTES.gaps, 'INT');
const failureKey = defineSearchAttributeKey(SEARCH_ATTRIBUTES.failure, 'KEYWORD');
const membersKey = defineSearchAttributeKey(SEARCH_ATTRIBUTES.members, 'INT');
const joinedAtKey = defineSearchAttributeKey(SEARCH_ATTRIBUTES.joinedAt, 'DATETIME');
const waitersKey = defineSearchAttributeKey(SEARCH_ATTRIBUTES.waiters, 'KEYWORD');

/** Marks runs that tell of failures, members, the join and waiters, too: earlier ones wrote nothing when these changed. */
const TELLS_MORE = 'tells-more-attributes';

export interface Visibility {
  publish(resync: LoadedResync): void;
  publishWhenDue(resync: LoadedResync): void;
  /** Until what has changed may be written, milliseconds; `null`: nothing has. How many wait is written with the rest. */
  dueInMs(resync: LoadedResync): number | null;
}

/** Of one run, from its begin on. */
export function createVisibility(): Visibility {
  const tellsMore = patched(TELLS_MORE);
  let published: string | null = null;
  let publishedAt = Number.NEGATIVE_INFINITY;
  const residentOf = ({ state }: LoadedResync): string | null => state.attempt?.resident ?? state.joinedVia;
  const key = (resync: LoadedResync): string => {
    const { state } = resync;
    const more = tellsMore ? ` ${state.lastFailure?.outcome ?? ''} ${state.members ?? ''}` : '';
    return `${shownPhase(state)} ${residentOf(resync) ?? ''} ${openGapsOf(resync)}${more}`;
  };
  const publish = (resync: LoadedResync): void => {
    if (key(resync) === published) return;
    published = key(resync);
    publishedAt = Date.now();
    upsertSearchAttributes([
      { key: phaseKey, value: shownPhase(resync.state) },
      { key: residentKey, value: residentOf(resync) },
      { key: gapsKey, value: openGapsOf(resync) },
      ...(tellsMore ? moreOf(resync) : []),
    ]);
  };
  const dueInMs = (resync: LoadedResync): number | null =>
    key(resync) === published ? null : Math.max(0, publishedAt + SEARCH_ATTRIBUTES_INTERVAL_MS - Date.now());
  return {
    publish,
    dueInMs,
    publishWhenDue: (resync) => {
      if (dueInMs(resync) === 0) publish(resync);
    },
  };
}

function moreOf({ state, waiters = 0 }: LoadedResync): SearchAttributePair[] {
  const { lastFailure, members, joinedAt } = state;
  return [
    { key: failureKey, value: lastFailure?.outcome ?? null },
    { key: membersKey, value: members },
    { key: joinedAtKey, value: joinedAt === null ? null : new Date(joinedAt) },
    { key: waitersKey, value: waitersBand(waiters) },
  ] as SearchAttributePair[];
}

/** Runs of before gaps were told of wrote nothing when these changed; the answers that they had say nothing of attempts. */
function openGapsOf({ gaps }: LoadedResync): number {
  return (gaps as Partial<GapsDue> | undefined)?.attempts === undefined ? 0 : (gaps?.open ?? 0);
}
