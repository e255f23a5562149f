/** What turned out otherwise than it had been judged: the corrections of a room, each with what it came of. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type EntryType } from '../../resync/entries.ts';
import { type Journalled, type ResyncEvent } from '../../resync/events.ts';
import { readCorrectionsDue } from '../../store/events/corrections.ts';
import { readJournalPage } from '../../store/journal/journal-pages.ts';
import { type RoomsContext } from '../context.ts';
import { type CorrectionsOpen, type CorrectionsPage } from '../contract.ts';
import { withTurned } from './witnesses.ts';

/** `EventUnPartialStated` is one where the verdict is another than before. */
const TYPES: ReadonlySet<EntryType> = new Set<EntryType>([
  'EventUnPartialStated',
  'VerdictChanged',
  'StatesChanged',
  'AnchorCorrected',
  'EventSoftFailed',
  'SoftFailureLifted',
  'JoinRejected',
  'JoinRestored',
]);

/** What is to be corrected in a room yet, and how far that is by its journal. */
export async function readCorrectionsOpen(
  { store }: Pick<RoomsContext, 'store'>,
  roomId: RoomId,
  journal: readonly Journalled<ResyncEvent>[],
): Promise<CorrectionsOpen> {
  const steps = journal.flatMap(({ event }) => (event.type === 'EventsCorrected' ? [event] : []));
  const since = steps.slice(steps.findLastIndex(({ remaining }) => remaining === 0) + 1);
  const count = (what: 'judged' | 'changed'): number => since.reduce((total, step) => total + step[what], 0);
  return { ...(await readCorrectionsDue(store, roomId)), judged: count('judged'), changed: count('changed') };
}

/** The corrections of a room after a position of the journal; a page may be empty and not the last. */
export async function readCorrections(
  { store }: Pick<RoomsContext, 'store'>,
  roomId: RoomId,
  { after, limit }: { readonly after: number; readonly limit: number },
): Promise<CorrectionsPage> {
  const { entries, next, head } = await readJournalPage(store, { after, limit, roomId, types: TYPES });
  const corrections = entries.filter(({ event }) => event.type !== 'EventUnPartialStated' || event.was !== event.is);
  return { corrections: await withTurned(store, roomId, corrections), next, head };
}
