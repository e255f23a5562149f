import { expect, test } from 'vitest';
import { createMatching } from '../../src/app-services/matching.ts';
import { type AppService, type Namespace } from '../../src/app-services/registration.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { serviceOf } from './service-of-tests.ts';

const HERE = 'here.test' as ServerName;

/** The service, and the ids that its expressions were held against. */
function counted(service: AppService): { readonly service: AppService; readonly matched: string[] } {
  const matched: string[] = [];
  const counting = (one: Namespace): Namespace => ({
    ...one,
    pattern: new Proxy(one.pattern, {
      get: (pattern, name): unknown => {
        if (name !== 'matcher') return Reflect.get(pattern, name);
        return (id: string) => {
          matched.push(id);
          return pattern.matcher(id);
        };
      },
    }),
  });
  const { users, aliases, rooms } = service.namespaces;
  const namespaces = { users: users.map(counting), aliases: aliases.map(counting), rooms: rooms.map(counting) };
  return { service: { ...service, namespaces }, matched };
}

test('an id that comes again is held against no expression, whoever asks of which service', () => {
  const { service: irc, matched } = counted(
    serviceOf(HERE, {
      id: 'irc',
      sender_localpart: 'irc',
      namespaces: { users: [{ exclusive: true, regex: '@irc_' }] },
    }),
  );
  const { service: xmpp, matched: others } = counted(
    serviceOf(HERE, { id: 'xmpp', sender_localpart: 'xmpp', namespaces: { users: [{ regex: '@irc_' }] } }),
  );
  const matching = createMatching([irc, xmpp]);
  const ask = () => [
    matching.isIn('irc', 'users', '@irc_x:here.test'),
    matching.isIn('xmpp', 'users', '@irc_x:here.test'),
    matching.isTaken('users', '@irc_x:here.test'),
    matching.isTaken('users', '@irc_x:here.test', 'irc'),
    matching.isTaken('users', '@irc_x:here.test', 'xmpp'),
    matching.isIn('irc', 'users', '@alice:here.test'),
    matching.isTaken('users', '@alice:here.test'),
    matching.isTaken('users', '@xmpp:here.test', 'irc'),
    matching.isIn('irc', 'rooms', '@irc_x:here.test'),
  ];
  const answers = ask();
  expect(answers).toEqual([true, true, true, false, true, false, false, true, false]);
  const before = [matched.length, others.length];
  expect(before[0]).toBeGreaterThan(0);
  expect(ask()).toEqual(answers);
  expect([matched.length, others.length]).toEqual(before);
});
