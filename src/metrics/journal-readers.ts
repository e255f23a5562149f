/** Those who follow the journal, counted: how many there are, what they are handed, and who is cut. */
import { type JournalFollower, type JournalPart, type JournalReads } from '../rooms/contract.ts';
import { type Instruments } from './instruments.ts';

type Counted = Pick<Instruments, 'journalReaders' | 'journalEntriesSent' | 'journalReadersCut'>;

/** The use case, with its followers counted from when they are let in until their caller goes away. */
export function countJournalReaders(
  reads: JournalReads,
  { journalReaders, journalEntriesSent, journalReadersCut }: Counted,
): JournalReads {
  async function* counted({ parts }: JournalFollower, leave: () => void): AsyncGenerator<JournalPart> {
    try {
      for await (const part of parts) {
        journalEntriesSent.inc(part.entries.length);
        yield part;
      }
    } finally {
      leave();
    }
  }
  return {
    page: (query) => reads.page(query),
    follow: async (query, signal) => {
      let isCounted = true;
      const leave = (): void => {
        if (isCounted) journalReaders.dec();
        isCounted = false;
      };
      journalReaders.inc();
      signal.addEventListener('abort', leave, { once: true });
      try {
        const follower = await reads.follow(query, signal);
        const cut = (): void => {
          journalReadersCut.inc();
          follower.cut();
        };
        return { parts: counted(follower, leave), cut };
      } catch (error) {
        leave();
        throw error;
      }
    },
  };
}
