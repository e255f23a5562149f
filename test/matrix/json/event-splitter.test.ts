import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EVENT_WIRE_BYTES_MAX, EventSplitter, SplitError } from '../../../src/matrix/json/event-splitter.ts';

const ARRAYS = ['state', 'auth_chain'] as const;

interface Outcome {
  readonly state: string[];
  readonly auth_chain: string[];
  readonly rest: Record<string, string>;
  readonly dropped: number;
  readonly error?: string;
}

function split(chunks: readonly Uint8Array[], restBytesMax = 10_000): Outcome {
  const found = { state: [] as string[], auth_chain: [] as string[] };
  try {
    const splitter = new EventSplitter({ arrays: ARRAYS, restBytesMax });
    const taken: [string[], Uint8Array][] = [];
    for (const chunk of chunks) splitter.push(chunk, (array, event) => taken.push([found[array], event]));
    const { rest, dropped } = splitter.end();
    // Read late: what was handed out must not change under the reader.
    for (const [list, event] of taken) list.push(Buffer.from(event).toString('utf8'));
    return {
      ...found,
      dropped,
      rest: Object.fromEntries([...rest].map(([name, bytes]) => [name, Buffer.from(bytes).toString('utf8')])),
    };
  } catch (error) {
    if (!(error instanceof SplitError)) throw error;
    return { ...found, dropped: 0, rest: {}, error: error.kind };
  }
}

const whole = (text: string): Outcome => split([Buffer.from(text)]);

function piecesOf(answer: Uint8Array): Uint8Array[] {
  return Array.from({ length: Math.ceil(answer.length / 1000) }, (_, i) => answer.subarray(i * 1000, (i + 1) * 1000));
}

const tricky =
  '\ufeff'.slice(1) +
  ' {"a" : "x\\"}]", "state":[{"k":"a\\\\"},\n{"n":{"m":[1,{"é":"\\u0022"}]}} , {}],"b":[1,"]",{"c":"}"}],' +
  '"auth_chain" : [ ] ,"t":true,"num":-1.5e3,"z":null}\n';

describe('splitting an answer into raw events', () => {
  test('events are cut out byte for byte, all else is kept beside them', () => {
    expect(whole(tricky)).toEqual({
      state: ['{"k":"a\\\\"}', '{"n":{"m":[1,{"é":"\\u0022"}]}}', '{}'],
      auth_chain: [],
      dropped: 0,
      rest: { a: '"x\\"}]"', b: '[1,"]",{"c":"}"}]', t: 'true', num: '-1.5e3', z: 'null' },
    });
  });

  test('any two chunk boundaries give the same result', () => {
    const bytes = Buffer.from(tricky);
    const expected = whole(tricky);
    for (let first = 0; first <= bytes.length; first += 1) {
      for (let second = first; second <= bytes.length; second += 1) {
        expect(split([bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)])).toEqual(
          expected,
        );
      }
    }
  });

  test('one byte at a time gives the same result', () => {
    expect(split([...Buffer.from(tricky)].map((byte) => Buffer.of(byte)))).toEqual(whole(tricky));
  });

  test('generated answers give back their events, wherever they are cut', () => {
    const events = fc.array(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue({ maxDepth: 3 })), {
      maxLength: 4,
    });
    const answer = fc.record({ state: events, x: fc.jsonValue({ maxDepth: 2 }), auth_chain: events, y: fc.string() });
    fc.assert(
      fc.property(answer, fc.array(fc.nat(), { maxLength: 6 }), (value, cuts) => {
        const bytes = Buffer.from(JSON.stringify(value));
        const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
        const outcome = split(at.slice(1).map((end, i) => bytes.subarray(at[i], end)));
        expect(outcome).toEqual({
          state: value.state.map((event) => JSON.stringify(event)),
          auth_chain: value.auth_chain.map((event) => JSON.stringify(event)),
          dropped: 0,
          rest: { x: JSON.stringify(value.x), y: JSON.stringify(value.y) },
        });
      }),
    );
  });

  test('arbitrary bytes are refused or taken, the same whole as in pieces, and never crash', () => {
    const unit = fc.constantFrom(...'{}[],:"\\ 1tnu'.split(''), '"state"', '{"state":[', 'null');
    fc.assert(
      fc.property(fc.array(unit), (units) => {
        const bytes = Buffer.from(units.join(''));
        expect(split([...bytes].map((byte) => Buffer.of(byte))).error).toBe(split([bytes]).error);
      }),
      { numRuns: 500 },
    );
  });

  test('every proper prefix of an answer is a cut answer', () => {
    const bytes = Buffer.from(tricky.trimEnd());
    for (let end = 0; end < bytes.length; end += 1) expect(split([bytes.subarray(0, end)]).error).toBe('malformed');
  });

  test.each([
    ['a list', '[]'],
    ['a string', '"state"'],
    ['two values', '{}{}'],
    ['state that is an object', '{"state":{}}'],
    ['state that is a string', '{"state":"[]"}'],
    ['state twice', '{"state":[],"state":[]}'],
    ['brackets that do not match', '{"state":[{"a":[}]}'],
    ['a missing comma', '{"state":[{}{}]}'],
    ['a comma too many', '{"state":[{},]}'],
    ['a comma before the end', '{"state":[],}'],
    ['no colon', '{"state" []}'],
    ['a name that is no string', '{state:[]}'],
    ['a name with a bad escape', '{"\\x":1}'],
    ['a name that is not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
    ['nesting without an end', `{"state":[${'['.repeat(100_000)}`],
    ['nesting that does not match', `{"state":[${'['.repeat(900)}}`],
  ])('%s is malformed', (_what, text) => {
    expect(split([Buffer.from(text as string)]).error).toBe('malformed');
  });

  test('null stands for an empty list', () => {
    expect(whole('{"state":null,"auth_chain":[{}]}')).toMatchObject({ state: [], auth_chain: ['{}'] });
  });

  test('an escaped name is the name it spells', () => {
    expect(whole('{"st\\u0061te":[{}]}').state).toEqual(['{}']);
  });

  test('members that are no events are dropped one by one and counted', () => {
    const tooLarge = `{"a":"${'x'.repeat(EVENT_WIRE_BYTES_MAX)}"}`;
    const largest = `{"a":"${'x'.repeat(EVENT_WIRE_BYTES_MAX - 8)}"}`;
    const answer = Buffer.concat([
      Buffer.from(`{"state":[1,"x",null,[{}],${tooLarge},${largest},{"bad":"`),
      Buffer.of(0xff),
      Buffer.from('"},{"good":1}]}'),
    ]);
    const expected = { state: [largest, '{"good":1}'], dropped: 6 };
    expect(split([answer])).toMatchObject(expected);
    expect(split(piecesOf(answer))).toMatchObject(expected);
  });

  test('an event is handed on however long its text is made by escapes, white space or what it replaced', () => {
    const content = { body: 'щ'.repeat(32_000) };
    const escaped = JSON.stringify({ content }).replaceAll('щ', '\\u0449');
    const users = Object.fromEntries(Array.from({ length: 1301 }, (_, i) => [`@user${i}:some.example.org`, 50]));
    const indented = JSON.stringify({ content: { users } }, null, 8);
    const replacing = JSON.stringify({ content, unsigned: { prev_content: content, replaces_state: '$x' } });
    const state = [escaped, indented, replacing];
    for (const text of state) expect(Buffer.byteLength(text)).toBeGreaterThan(65_536);
    const answer = Buffer.from(`{"state":[${state.join(',')}]}`);
    expect(split([answer])).toMatchObject({ state, dropped: 0 });
    expect(split(piecesOf(answer))).toMatchObject({ state, dropped: 0 });
  });

  test('an event nested deeper than any may be leaves the others to be had', () => {
    const deep = `{"content":${'[{"a":'.repeat(100_000)}1${'}]'.repeat(100_000)}}`;
    const answer = Buffer.from(`{"state":[{"first":1},${deep},{"last":1}],"x":${'['.repeat(999)}${']'.repeat(999)}}`);
    const expected = { state: ['{"first":1}', deep, '{"last":1}'], dropped: 0 };
    expect(split([answer], 10_000)).toMatchObject(expected);
    expect(split(piecesOf(answer), 10_000)).toMatchObject(expected);
  });

  test('much beside the events is too large', () => {
    expect(split([Buffer.from(`{"x":"${'x'.repeat(200)}"}`)], 100).error).toBe('too-large');
    expect(split([Buffer.from(`{"x":"${'x'.repeat(60)}`), Buffer.from('x'.repeat(60))], 100).error).toBe('too-large');
    expect(split([Buffer.from(`{${'"x":1,'.repeat(40)}"y":1}`)], 100).error).toBe('too-large');
  });
});
