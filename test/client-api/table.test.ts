import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { OPEN_ENDPOINTS, USER_ENDPOINTS, createClientServer } from '../../src/client-api/server.ts';
import { bareOptions } from './client.ts';

const PAGE = join(import.meta.dirname, '../../docs/CLIENT-API.md');

interface Row {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly there: boolean;
}

async function rows(): Promise<Row[]> {
  const found = (await readFile(PAGE, 'utf8')).matchAll(/^\| `([A-Z]+) (\S+)` *\| (yes|no) *\|$/gm);
  return [...found].map(([, method, path = '', there]) => ({
    method: method as Row['method'],
    path,
    there: there === 'yes',
  }));
}

/** Names of variables differ, and mean nothing. */
const shape = ({ method, path }: Pick<Row, 'method' | 'path'>): string =>
  `${method} ${path.replace(/\{\w+\}|:\w+/g, '{}')}`;

test('the page of the client API lists each endpoint once, and those that are there as they are', async () => {
  const page = await rows();
  expect(page.length).toBeGreaterThan(150);
  expect(new Set(page.map(shape)).size).toBe(page.length);
  const served = [...OPEN_ENDPOINTS, ...USER_ENDPOINTS].map(shape);
  const told = page.filter(({ there }) => there).map(shape);
  expect(served.filter((endpoint) => !endpoint.includes('/client/r0/')).sort()).toEqual(told.sort());
  const old = served.filter((endpoint) => endpoint.includes('/client/r0/')).map((text) => text.replace('/r0/', '/v3/'));
  const alsoOld = told.filter((text) => text.includes('/client/v3/') && !text.endsWith('/refresh'));
  expect(old.sort()).toEqual(alsoOld.sort());
});

test('the page says of each chapter that lacks something what it lacks, and why', async () => {
  const [, ...chapters] = (await readFile(PAGE, 'utf8')).split(/^## /m);
  for (const chapter of chapters.filter((text) => /\| no *\|$/m.test(text))) {
    const [name = '', ...before] = chapter.slice(0, chapter.indexOf('\n|')).split('\n');
    expect([name, before.join('').trim()]).not.toEqual([name, '']);
  }
});

test('what the page says is not there is unrecognized, under r0 too', async () => {
  const app = createClientServer({ ...bareOptions() });
  onTestFinished(() => app.close());
  for (const { method, path } of (await rows()).filter(({ there }) => !there)) {
    for (const form of [path, path.replace('/client/v3/', '/client/r0/')]) {
      const url = form.replace(/\{\w+\}/g, 'something');
      const response = await app.inject({ method, url });
      expect([method, url, [404, 405]]).toEqual([method, url, expect.arrayContaining([response.statusCode])]);
      expect([url, response.json()]).toEqual([url, expect.objectContaining({ errcode: 'M_UNRECOGNIZED' })]);
    }
  }
});
