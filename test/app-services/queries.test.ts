import { expect, test } from 'vitest';
import { createAppServices } from '../../src/app-services/app-services.ts';
import { ServiceError, type ServiceRequest } from '../../src/app-services/ask-service.ts';
import { type AppServices } from '../../src/app-services/contract.ts';
import { createMatching } from '../../src/app-services/matching.ts';
import { type AppService } from '../../src/app-services/registration.ts';
import { type RoomAlias, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { silent } from '../federation/tls-server.ts';
import { serviceOf } from './service-of-tests.ts';

const HERE = 'here.test' as ServerName;

type Answering = (service: string, asked: ServiceRequest) => Promise<number>;

/** Services by their ids that have names beginning with these, and how they answer. */
function servicesOf(prefixes: Readonly<Record<string, string>>, answering: Answering, now = () => 0): AppServices {
  const services = Object.entries(prefixes).map(([id, prefix]): AppService => {
    const namespaces = { users: [{ regex: `@${prefix}` }], aliases: [{ regex: `#${prefix}` }] };
    return serviceOf(HERE, { ...{ id, url: `http://${id}`, sender_localpart: `${id}bot`, as_token: id }, namespaces });
  });
  const client = {
    ask: async ({ url }: Pick<AppService, 'url'>, asked: ServiceRequest) => ({
      status: await answering(url?.slice('http://'.length) ?? '', asked),
      body: '',
    }),
    close: () => Promise.resolve(),
  };
  const matching = createMatching(services);
  const context = { serverName: HERE, services, matching, client, clock: { now }, logger: silent };
  return createAppServices({ ...context, retry: () => undefined });
}

const user = (name: string): UserId => `@${name}:here.test` as UserId;

/** Answers when it is told to. */
function gate(): { readonly opened: Promise<number>; readonly open: (status: number) => void } {
  let open: (status: number) => void = () => undefined;
  const opened = new Promise<number>((resolve) => {
    open = resolve;
  });
  return { opened, open: (status) => open(status) };
}

test('all who look for one name at the same time share one question, and the next who looks asks anew', async () => {
  const asked: string[] = [];
  const { opened, open } = gate();
  const services = servicesOf({ irc: 'x' }, (_service, { path }) => {
    asked.push(decodeURIComponent(path.slice('/_matrix/app/v1/'.length)));
    return opened;
  });
  const answers = Array.from({ length: 100 }, () => services.provideUser(user('x')));
  const alias = services.provideAlias('#x:here.test' as RoomAlias);
  expect(asked).toEqual(['users/@x:here.test', 'rooms/#x:here.test']);
  open(200);
  expect(new Set(await Promise.all([...answers, alias]))).toEqual(new Set([true]));
  await services.provideUser(user('x'));
  expect(asked).toHaveLength(3);
});

test('who asks one service for more names than it answers keeps nobody from asking another', async () => {
  const asked = { irc: 0, slack: 0 };
  const { opened, open } = gate();
  const services = servicesOf({ irc: 'irc_', slack: 'slack_' }, (service) => {
    asked[service as 'irc' | 'slack'] += 1;
    return service === 'irc' ? opened : Promise.resolve(200);
  });
  const waiting = Array.from({ length: 60 }, (_, i) => services.provideUser(user(`irc_${i}`)));
  expect(await services.provideUser(user('slack_1'))).toBe(true);
  expect(asked).toEqual({ irc: 50, slack: 1 });
  open(404);
  expect(new Set(await Promise.all(waiting))).toEqual(new Set([false]));
  await services.provideUser(user('irc_last'));
  expect(asked.irc).toBe(51);
});

test('services that could all have a name are asked for ten seconds together, and one that hangs leaves time to the next', async () => {
  let now = 1_000_000;
  const given: (readonly [string, number])[] = [];
  const hanging: Answering = (service, { timeoutMs }) => {
    given.push([service, timeoutMs]);
    if (service === 'quick') return Promise.resolve(404);
    now += timeoutMs;
    return Promise.reject(new ServiceError('timeout', 'late'));
  };
  const services = servicesOf({ one: 'x', quick: 'x', two: 'x', three: 'x' }, hanging, () => now);
  expect(await services.provideUser(user('x'))).toBe(false);
  expect(given).toEqual([
    ...([
      ['one', 2_500],
      ['quick', 2_500],
      ['two', 3_750],
      ['three', 3_750],
    ] as const),
  ]);
  expect(now).toBe(1_010_000);
});
