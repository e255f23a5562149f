import { expect, onTestFinished, test } from 'vitest';
import { OPEN_ENDPOINTS, USER_ENDPOINTS, createClientServer } from '../../src/client-api/server.ts';
import { bareOptions } from './client.ts';
import { expectReasonsInChapters, readEndpointRows, shapeOf } from '../support/endpoint-tables.ts';

const PAGE = 'CLIENT-API.md';

test('the page of the client API lists each endpoint once, and those that are there as they are', async () => {
  const page = await readEndpointRows(PAGE);
  expect(page.length).toBeGreaterThan(150);
  expect(new Set(page.map(shapeOf)).size).toBe(page.length);
  const served = [...OPEN_ENDPOINTS, ...USER_ENDPOINTS].map(shapeOf);
  const told = page.filter(({ there }) => there).map(shapeOf);
  expect(served.filter((endpoint) => !endpoint.includes('/client/r0/')).sort()).toEqual(told.sort());
  const old = served.filter((endpoint) => endpoint.includes('/client/r0/')).map((text) => text.replace('/r0/', '/v3/'));
  const alsoOld = told.filter((text) => text.includes('/client/v3/') && !text.endsWith('/refresh'));
  expect(old.sort()).toEqual(alsoOld.sort());
});

test('the page says of each chapter that lacks something what it lacks, and why', async () => {
  await expectReasonsInChapters(PAGE);
});

test('what the page says is not there is unrecognized, under r0 too', async () => {
  const app = createClientServer({ ...bareOptions() });
  onTestFinished(() => app.close());
  for (const { method, path } of (await readEndpointRows(PAGE)).filter(({ there }) => !there)) {
    for (const form of [path, path.replace('/client/v3/', '/client/r0/')]) {
      const url = form.replace(/\{\w+\}/g, 'something');
      const response = await app.inject({ method, url });
      expect([method, url, [404, 405]]).toEqual([method, url, expect.arrayContaining([response.statusCode])]);
      expect([url, response.json()]).toEqual([url, expect.objectContaining({ errcode: 'M_UNRECOGNIZED' })]);
    }
  }
});
