/** The timeline for a person: a line a step, printed when it happens beside what the step took in 2022, and bars below. */
import { type Output, humanCount, humanSize, printable } from '../output.ts';
import { BASELINE_MEMBERS, CLASSIC_JOIN_2022, FASTER_JOIN_2022 } from './baseline.ts';
import { STEPS, type Step } from './step.ts';
import { type ShownProgress } from '../../operator/answer-forms.ts';

const BASELINES = [FASTER_JOIN_2022, CLASSIC_JOIN_2022];
const STEP_COLUMNS = Math.max(...Object.values(STEPS).map((label) => label.length));
const HERE_COLUMNS = 9;
const BAR_COLUMNS = 28;
/** Where nobody watches, a line for each such part. */
const TOLD_SHARE = 0.25;

export interface TimelinePrinter {
  head(): void;
  step(step: Step): void;
  progress(progress: ShownProgress | null): void;
  foot(): void;
}

/** `print` takes the lines: those of the result, or those about it when the result is JSON. */
export function createTimelinePrinter(output: Output, print: (line: string) => void): TimelinePrinter {
  const { colours } = output;
  let told = { step: '', share: 0 };
  return {
    head: () => {
      const names = BASELINES.map(({ name }) => colours.dim(`  ${name}`));
      print(colours.bold(`${''.padEnd(STEP_COLUMNS)}  ${'here'.padStart(HERE_COLUMNS)}`) + names.join(''));
    },
    step: ({ name, atMs, detail }) => {
      const here = `${(atMs / 1000).toFixed(2)} s`.padStart(HERE_COLUMNS);
      const then = BASELINES.map((baseline) => {
        const ms = baseline.atMs[name];
        return `  ${(ms === undefined ? '' : minutes(ms)).padStart(baseline.name.length)}`;
      });
      const text = `${STEPS[name].padEnd(STEP_COLUMNS)}  ${here}`;
      const times = then.join('');
      // Wrapped lines would break the table.
      const room = Math.max(0, (output.columns ?? Infinity) - text.length - times.length - 2);
      print(`${text}${colours.dim(`${times}  ${cut(printable(detail), room)}`)}`.trimEnd());
    },
    progress: (progress) => {
      if (progress === null) {
        output.status();
        return;
      }
      const { share, text } = describe(progress);
      if (output.columns !== undefined) {
        output.status(`${bar(share)}  ${text}`);
        return;
      }
      if (progress.step !== told.step) told = { step: progress.step, share: 0 };
      if (share < told.share + TOLD_SHARE) return;
      told = { step: progress.step, share: Math.floor(share / TOLD_SHARE) * TOLD_SHARE };
      output.note(text);
    },
    foot: () => {
      const of = `#element:matrix.org, ${humanCount(BASELINE_MEMBERS)} users`;
      print(colours.dim(`2022: what the Synapse team measured on 30 May 2022 (${of}, from a small server)`));
    },
  };
}

function describe(progress: ShownProgress): { readonly share: number; readonly text: string } {
  if (progress.step === 'walk') {
    const { walked, remaining } = progress;
    const all = walked + remaining;
    return { share: walked / Math.max(1, all), text: `walk: ${humanCount(walked)} of ${humanCount(all)} events` };
  }
  const { wanted, held, bytes } = progress;
  const text = `state fetch: ${humanCount(held)} of ${humanCount(wanted)} events, ${humanSize(bytes)}`;
  return { share: held / Math.max(1, wanted), text };
}

function bar(share: number): string {
  const full = Math.round(Math.min(1, share) * BAR_COLUMNS);
  return `${'█'.repeat(full)}${'░'.repeat(BAR_COLUMNS - full)} ${Math.floor(share * 100)
    .toString()
    .padStart(3)} %`;
}

function cut(text: string, charactersMax: number): string {
  if (text.length <= charactersMax) return text;
  return charactersMax < 1 ? '' : `${text.slice(0, charactersMax - 1)}…`;
}

/** `0:40`, `7:24`. */
function minutes(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}
