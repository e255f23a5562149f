import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { KEY_ENDPOINTS } from '../../src/federation-api/endpoints-keys.ts';
import { OPEN_INVITE_ENDPOINTS } from '../../src/federation-api/endpoints-invites.ts';
import { SIGNED_ENDPOINTS, createFederationServer } from '../../src/federation-api/server.ts';
import { OUR_NAME, ourKey, silent } from '../federation/tls-server.ts';
import { expectReasonsInChapters, readEndpointRows, shapeOf } from '../support/endpoint-tables.ts';

const PAGE = 'FEDERATION-API.md';

test('the page of the federation API lists each endpoint once, and those that are there as they are', async () => {
  const page = await readEndpointRows(PAGE);
  expect(page.length).toBeGreaterThan(35);
  expect(new Set(page.map(shapeOf)).size).toBe(page.length);
  const served = [...KEY_ENDPOINTS, ...OPEN_INVITE_ENDPOINTS, ...SIGNED_ENDPOINTS].map(shapeOf);
  expect(served.sort()).toEqual(
    page
      .filter(({ there }) => there)
      .map(shapeOf)
      .sort(),
  );
});

test('the page says of each chapter that lacks something what it lacks, and why', async () => {
  await expectReasonsInChapters(PAGE);
});

test('what the page says is not there is unrecognized, and what is there wants a signature, but for keys, versions and what identity servers tell', async () => {
  const never = () => Promise.reject(new Error('nobody asks here'));
  const app = createFederationServer({
    ...{ serverName: OUR_NAME, signingKey: ourKey, clock: systemClock, logger: silent, version: '1' },
    resolveKeys: () => Promise.resolve([]),
    bodies: { readBody: never },
    ports: { receiveTransaction: never, roomStatus: never, statusOfEventsRoom: never },
  });
  onTestFinished(() => app.close());
  const address = await app.listen({ port: 0, host: '127.0.0.1' });
  const open = new Set(KEY_ENDPOINTS.map(shapeOf));
  const takesBodies = new Set(OPEN_INVITE_ENDPOINTS.map(shapeOf));
  for (const row of await readEndpointRows(PAGE)) {
    const { method, path, there } = row;
    const url = path.replace(/\{\w+\}/g, 'something');
    const response = await fetch(`${address}${url}`, { method });
    const isBody = takesBodies.has(shapeOf(row));
    const expected = there ? (open.has(shapeOf(row)) ? [200] : [isBody ? 400 : 401]) : [404, 405];
    expect([method, url, expected]).toEqual([method, url, expect.arrayContaining([response.status])]);
    const errcode = isBody ? 'M_NOT_JSON' : there ? 'M_UNAUTHORIZED' : 'M_UNRECOGNIZED';
    const answer = await response.json();
    if (response.status !== 200) {
      expect([url, answer]).toEqual([url, expect.objectContaining({ errcode })]);
    }
  }
});
