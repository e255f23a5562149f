/** The API's own description against what the server does. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type RunningServer, TOKEN, WHOLE, ask, startServer } from './rooms-of-test.ts';

interface Operation {
  readonly summary: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly description?: string }[];
  readonly requestBody?: { readonly content: Record<string, { readonly schema: Schema }> };
  readonly responses: Record<string, { readonly content: Record<string, { readonly schema: Schema }> }>;
}
interface Schema {
  readonly type?: string;
  readonly properties?: Record<string, unknown>;
  readonly required?: readonly string[];
  readonly anyOf?: readonly unknown[];
}
type Paths = Record<string, Record<string, Operation>>;

let server: RunningServer;
beforeEach(async () => {
  server = await startServer();
});
afterEach(() => server.close());

const described = async (): Promise<{ body: Record<string, unknown>; paths: Paths }> => {
  const { body } = await ask(server, '/openapi.json');
  return { body, paths: body['paths'] as Paths };
};

const PARAMETERS: Readonly<Record<string, string>> = {
  purge: 'p1',
  room: WHOLE,
  event: '$event',
  user: 'alice',
  service: 'irc',
};

test('it is served with the version of the server, behind the token', async () => {
  const { body } = await described();
  expect(body).toMatchObject({ openapi: '3.1.1', info: { version: '1.2.3' }, security: [{ token: [] }] });
  expect((await fetch(`${server.url}/_rejoinder/v1/openapi.json`)).status).toBe(401);
});

test('each operation that it names is there, and no other method of its path', async () => {
  const { paths } = await described();
  for (const [path, operations] of Object.entries(paths)) {
    const url = `${server.url}${path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(PARAMETERS[name] ?? ''))}`;
    const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
    for (const method of ['GET', 'POST', 'PUT', 'DELETE']) {
      const init =
        method === 'POST'
          ? { method, headers, body: '{}' }
          : { method, headers: { authorization: headers.authorization } };
      const { status } = await fetch(url, init);
      const isThere = Object.hasOwn(operations, method.toLowerCase());
      expect({ path, method, isRefused: status === 405 }).toEqual({ path, method, isRefused: !isThere });
    }
  }
});

test('each endpoint of the server is named in it', async () => {
  const { paths } = await described();
  expect(Object.keys(paths).length).toBeGreaterThan(20);
  for (const path of [
    '/rooms/join',
    '/rooms/{room}',
    '/rooms/{room}/pin-resident',
    '/rooms/retry',
    '/journal',
    '/users',
  ]) {
    expect(paths).toHaveProperty([`/_rejoinder/v1${path}`]);
  }
});

test('it says of each operation what it does, of each parameter what it is, and of bodies what is needed', async () => {
  const { paths } = await described();
  for (const [path, operations] of Object.entries(paths)) {
    for (const { summary, parameters = [], responses } of Object.values(operations)) {
      expect(summary).toMatch(/^\S.*\.$/);
      expect(Object.keys(responses)).toEqual(['200', 'default']);
      // What it answers is held against this wherever a test asks it something (rooms-of-test.ts).
      const answers = responses['200']?.content['application/json']?.schema;
      expect(answers?.anyOf ?? Object.keys(answers?.properties ?? {})).not.toEqual([]);
      const named = parameters.filter((one) => one.in === 'path').map(({ name }) => `{${name}}`);
      expect(path.match(/\{\w+\}/g) ?? []).toEqual(named);
      for (const { name, description } of parameters.filter((one) => one.in === 'path')) {
        expect(description).not.toBe(name);
      }
    }
  }
  const schemaOf = (path: string): Schema | undefined =>
    paths[`/_rejoinder/v1${path}`]?.['post']?.requestBody?.content['application/json']?.schema;
  expect(schemaOf('/rooms/{room}/ban-resident')).toMatchObject({ type: 'object', required: ['resident'] });
  expect(Object.keys(schemaOf('/rooms/{room}/set-policy')?.properties ?? {}).sort()).toEqual([
    'by',
    'policy',
    'reason',
  ]);
  expect(schemaOf('/rooms/join')?.required).toEqual(['room', 'user_id']);
});
