import { Writable } from 'node:stream';
import colours from 'picocolors';
import { describe, expect, test } from 'vitest';
import { createTimelinePrinter } from '../../src/cli/demo/print-timeline.ts';
import { type Output, createOutput } from '../../src/cli/output.ts';

/** An output whose two streams write into one text, as a terminal has it. */
function outputInto(columns?: number): { readonly output: Output; readonly text: () => string } {
  const chunks: string[] = [];
  const stream = () =>
    new Writable({
      decodeStrings: false,
      write: (chunk, _encoding, done) => {
        chunks.push(String(chunk));
        done();
      },
    });
  const stderr = Object.assign(stream(), columns === undefined ? {} : { columns });
  const output = createOutput(stream(), stderr, colours.createColors(false), columns !== undefined);
  return { output, text: () => chunks.join('') };
}

const printerOn = (output: Output) => createTimelinePrinter(output, (line) => output.line(line));

const ERASED = '\r\u001b[2K';

describe('a line that is written over', () => {
  test('stays below what is printed, is cut at the edge of the terminal, and is taken away', () => {
    const { output, text } = outputInto(20);
    output.status('half of it is done, and more');
    output.line('news');
    output.status('all of it');
    output.status('all of it');
    output.status();
    output.note('end');
    const cut = 'half of it is done,';
    expect(text()).toBe(`${cut}${ERASED}news\n${cut}${ERASED}all of it${ERASED}end\n`);
  });

  test('is not there where nobody watches', () => {
    const { output, text } = outputInto();
    output.status('half of it');
    output.line('news');
    output.status();
    expect(text()).toBe('news\n');
    expect(output.columns).toBeUndefined();
  });
});

describe('the timeline', () => {
  const answered = { name: 'join-answered', atMs: 312, detail: 'partial state' } as const;

  test('has each step beside what it took in 2022', () => {
    const { output, text } = outputInto();
    const printer = printerOn(output);
    printer.head();
    printer.step(answered);
    printer.step({ name: 'state-fetched', atMs: 2_345, detail: 'by a server\u001b[31m' });
    printer.step({ name: 'members-answered', atMs: 61_000, detail: '' });
    expect(text().split('\n')).toEqual([
      '                        here  2022 faster  2022 classic',
      'join answered         0.31 s         0:40          5:22  partial state',
      'state fetched         2.35 s                             by a server\ufffd[31m',
      '/members answered    61.00 s         7:46',
      '',
    ]);
  });

  test('breaks no line of a terminal', () => {
    for (const columns of [57, 60, 80]) {
      const { output, text } = outputInto(columns);
      printerOn(output).step({ ...answered, detail: 'a'.repeat(200) });
      const [line = ''] = text().split('\n');
      expect(line.length).toBeLessThanOrEqual(columns);
    }
  });

  test('draws a bar at a terminal', () => {
    const { output, text } = outputInto(120);
    const printer = printerOn(output);
    printer.progress({ step: 'fetch', wanted: 13_412, held: 6_706, bytes: 4_194_304 });
    printer.progress(null);
    expect(text()).toBe(
      `${'█'.repeat(14)}${'░'.repeat(14)}  50 %  state fetch: 6,706 of 13,412 events, 4.2 MB${ERASED}`,
    );
  });

  test('says where nobody watches when another quarter is done', () => {
    const { output, text } = outputInto();
    const printer = printerOn(output);
    for (const held of [0, 10, 26, 30, 49, 80, 100]) printer.progress({ step: 'fetch', wanted: 100, held, bytes: 0 });
    printer.progress({ step: 'walk', walked: 0, remaining: 200 });
    printer.progress({ step: 'walk', walked: 150, remaining: 50 });
    expect(text().split('\n')).toEqual([
      'state fetch: 26 of 100 events, 0 B',
      'state fetch: 80 of 100 events, 0 B',
      'state fetch: 100 of 100 events, 0 B',
      'walk: 150 of 200 events',
      '',
    ]);
  });
});
