/** The pages of docs/ that list all endpoints of an API of the specification, whether they are there or not. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';

export interface EndpointRow {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly there: boolean;
}

const read = (page: string): Promise<string> => readFile(join(import.meta.dirname, '../../docs', page), 'utf8');

/** Of a page, by its file's name. */
export async function readEndpointRows(page: string): Promise<EndpointRow[]> {
  const found = (await read(page)).matchAll(/^\| `([A-Z]+) (\S+)` *\| (yes|no) *\|$/gm);
  return [...found].map(([, method, path = '', there]) => ({
    method: method as EndpointRow['method'],
    path,
    there: there === 'yes',
  }));
}

/** Names of variables differ, and mean nothing. */
export const shapeOf = ({ method, path }: { readonly method: string; readonly path: string }): string =>
  `${method} ${path.replace(/\{\w+\}|:\w+/g, '{}')}`;

export async function expectReasonsInChapters(page: string): Promise<void> {
  const [, ...chapters] = (await read(page)).split(/^## /m);
  for (const chapter of chapters.filter((text) => /\| no *\|$/m.test(text))) {
    const [name = '', ...before] = chapter.slice(0, chapter.indexOf('\n|')).split('\n');
    expect([name, before.join('').trim()]).not.toEqual([name, '']);
  }
}
