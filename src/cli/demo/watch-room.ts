/** Looks at one room through the operator API, again and again, and gives what is new since the look before. */
import { type ShownProgress, descriptionAnswer } from '../../operator/answer-forms.ts';
import { type OperatorClient } from '../operator-client.ts';
import { type ShownCorrection, correctedVerdicts } from './shown-correction.ts';
import { type StepName } from './step.ts';
import { type Said } from './talk.ts';

const described = descriptionAnswer.pick({
  attempts: true,
  fetched: true,
  progress: true,
  corrected: true,
  journal: true,
});
const staged = descriptionAnswer.pick({ staged_events: true });

/** The steps of a resync by the journal's name for them. The join's own entries are told as whoever joins sees them. */
const JOURNALLED: Readonly<Record<string, StepName>> = {
  StateFetchStarted: 'state-asked',
  StateFetchFailed: 'state-refused',
  StateFetched: 'state-fetched',
  RoundFailed: 'round-failed',
  EventsWalked: 'join-event-full',
  ResyncCompleted: 'resync-done',
};

/** A step of the room's. */
export interface RoomNews {
  readonly name: StepName;
  /** Milliseconds since the epoch, by the journal. */
  readonly at: number;
  readonly detail: string;
}

export interface SeenRoom {
  readonly attempts: number;
  readonly fetched: Readonly<Record<string, number>> | null;
  readonly progress: ShownProgress | null;
  /** In the order in which it happened. */
  readonly news: readonly RoomNews[];
}

export interface RoomWatch {
  /** `said`: what is called otherwise than by its event id. */
  look(said: readonly Said[]): Promise<SeenRoom>;
  /** Events that were received and are not judged yet. */
  staged(): Promise<number>;
  /** All that were seen. */
  readonly corrections: readonly ShownCorrection[];
}

/** @param path of the room, in the operator API. */
export function createRoomWatch(client: Pick<OperatorClient, 'ask'>, path: string): RoomWatch {
  const corrections: ShownCorrection[] = [];
  let toldSeq = 0;
  let toldCorrected = 0;
  let from = 0;

  const newCorrections = async (said: readonly Said[]): Promise<RoomNews[]> => {
    const page = correctedVerdicts((await client.ask(`${path}/corrections?from=${from}`)).body);
    from = page.next;
    corrections.push(...page.corrections);
    return page.corrections.map(({ event_id: eventId, was, is, at }) => {
      const what = said.find((one) => one.eventId === eventId)?.what ?? eventId;
      return { name: 'verdict-corrected', at, detail: `${was} before, ${is} now: ${what}` };
    });
  };

  return {
    corrections,
    async look(said) {
      const { journal, corrected, ...seen } = described.parse((await client.ask(path)).body);
      const news: RoomNews[] = [];
      for (const { seq, at, type, explanation } of journal) {
        if (seq <= toldSeq) continue;
        toldSeq = seq;
        const name = JOURNALLED[type];
        if (name !== undefined) news.push({ name, at: Date.parse(at), detail: explanation });
      }
      if (corrected > toldCorrected) {
        toldCorrected = corrected;
        news.unshift(...(await newCorrections(said)));
      }
      return { ...seen, news: news.sort((a, b) => a.at - b.at) };
    },
    staged: async () => staged.parse((await client.ask(path)).body).staged_events,
  };
}
