import { expect, test } from 'vitest';
import { type TemplateAnswer } from '../../../src/federation/contract.ts';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { askForTemplates } from '../../../src/rooms/join/templates.ts';

const [A, B, C, D, E] = ['a', 'b', 'c', 'd', 'e'] as ServerName[] as [
  ServerName,
  ServerName,
  ServerName,
  ServerName,
  ServerName,
];
const template: TemplateAnswer = { roomVersion: '11', event: {} };

/** Residents that answer when the test says so. */
function residents(order: readonly ServerName[], hedgeMs: number) {
  const asked: ServerName[] = [];
  const signals: AbortSignal[] = [];
  const answers = new Map<ServerName, { give: () => void; refuse: () => void }>();
  const templates = askForTemplates(order, hedgeMs, (resident, signal) => {
    asked.push(resident);
    signals.push(signal);
    return new Promise((resolve, reject) => {
      answers.set(resident, { give: () => resolve(template), refuse: () => reject(new Error('no')) });
    });
  });
  return { templates, asked, signals, answer: (name: ServerName) => answers.get(name)! };
}
const HOUR = 3_600_000;

test('while the first resident has not answered for a while the next are asked too, three at a time, and whoever answers is taken', async () => {
  const { templates, asked, answer } = residents([A, B, C, D], 1);
  const quickest = templates.quickest();
  await expect.poll(() => asked).toEqual([A, B, C]);
  answer(C).give();
  expect(await quickest).toBe(C);
  const next = templates.quickest();
  await expect.poll(() => asked).toEqual([A, B, C, D]);
  answer(A).give();
  expect(await next).toBe(A);
});

test('a resident that answers in time is the only one asked, and one that refuses is followed by the next at once', async () => {
  const { templates, asked, answer } = residents([A, B, C], HOUR);
  const first = templates.quickest();
  answer(A).refuse();
  expect(await first).toBe(A);
  await expect(templates.of(A)).rejects.toThrow('no');
  expect(asked).toEqual([A]);
  const second = templates.quickest();
  answer(B).give();
  expect(await second).toBe(B);
  expect(await templates.of(B)).toBe(template);
  expect(asked).toEqual([A, B]);
});

test('every resident has one turn, and then there is none left', async () => {
  const { templates, answer } = residents([A, B], HOUR);
  const first = templates.quickest();
  answer(A).refuse();
  await first;
  expect(templates.next()).toBe(B);
  expect(await templates.quickest()).toBeUndefined();
});

test('one whose turn it is without having answered is waited for where its template is wanted', async () => {
  const { templates, asked, answer } = residents([A, B, E], HOUR);
  expect(templates.next()).toBe(A);
  expect(asked).toEqual([]);
  const wanted = templates.of(A);
  answer(A).give();
  expect(await wanted).toBe(template);
  expect(asked).toEqual([A]);
});

test('what is under way at the end is cut off', async () => {
  const { templates, asked, signals, answer } = residents([A, B], 1);
  const quickest = templates.quickest();
  await expect.poll(() => asked).toEqual([A, B]);
  answer(B).give();
  await quickest;
  templates.close();
  expect(signals.every(({ aborted }) => aborted)).toBe(true);
});
