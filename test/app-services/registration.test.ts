import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type AppService, beginningsOf, matchOf, readRegistration } from '../../src/app-services/registration.ts';
import { loadConfig } from '../../src/config.ts';
import { ConfigError } from '../../src/config/error.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';

const HERE = 'here.test' as ServerName;

const REGISTRATION = `
id: irc
url: http://localhost:9000/
as_token: the-token-of-the-service
hs_token: the-token-of-the-server
sender_localpart: ircbot
rate_limited: false
de.sorunome.msc2409.push_ephemeral: true
namespaces:
  users:
    - { exclusive: true, regex: '@irc_.*:here\\.test' }
    - { exclusive: false, regex: '@shared_' }
  aliases: [{ exclusive: true, regex: '#irc_' }]
  rooms: []
`;

/** A configuration with these registrations, and how it is read. */
async function loaded(
  files: Readonly<Record<string, string>>,
): Promise<{ folder: string; services: () => readonly AppService[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-registrations-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  const settings = { server_name: HERE, app_service_config_files: Object.keys(files) };
  await writeFile(join(folder, 'rejoinder.yaml'), JSON.stringify(settings));
  const path = join(folder, 'rejoinder.yaml');
  return { folder, services: () => loadConfig({ path, env: {} }).appServices };
}

/** What is wrong, one a line, without the folder. */
async function problemsOf(files: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const { folder, services } = await loaded(files);
  try {
    services();
    return [];
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message.replaceAll(`${folder}/`, '').split('\n');
  }
}

test('a registration is read from its file, and members that are for other servers are let pass', async () => {
  const [service] = (await loaded({ 'irc.yaml': REGISTRATION })).services();
  expect(service).toMatchObject({
    ...{ id: 'irc', url: 'http://localhost:9000', asToken: 'the-token-of-the-service' },
    ...{ hsToken: 'the-token-of-the-server', sender: '@ircbot:here.test', isRateLimited: false },
    ephemeralKeys: ['de.sorunome.msc2409.ephemeral'],
  });
  expect(service!.namespaces.users.map(({ isExclusive }) => isExclusive)).toEqual([true, false]);
});

test('a bad registration is a problem of the configuration that says where it is, and what it should be', async () => {
  const without = (line: RegExp): string => REGISTRATION.replace(line, '');
  expect(await problemsOf({ 'irc.yaml': without(/^id:.*\n/m) })).toEqual([
    'irc.yaml: id: expected a name that no other service has, found nothing',
  ]);
  expect(await problemsOf({ 'irc.yaml': REGISTRATION.replace('http://localhost:9000/', 'ftp://x') })).toEqual([
    'irc.yaml:3: url: expected a URL such as http://localhost:9000, or null, found "ftp://x"',
  ]);
  const [bad] = await problemsOf({ 'irc.yaml': REGISTRATION.replace("'@shared_'", "'@(?!irc)'") });
  expect(bad).toMatch(/^irc\.yaml:12: namespaces\.users\.1\.regex: expected a regular expression in the syntax of RE2/);
  expect(await problemsOf({ 'irc.yaml': REGISTRATION.replace('ircbot', 'IRC bot') })).toEqual([
    'irc.yaml:6: sender_localpart: expected a name of a-z, 0-9 and . _ = - / +, found "IRC bot"',
  ]);
  expect(await problemsOf({ 'irc.yaml': 'id: [' })).toEqual([
    expect.stringMatching(/^irc\.yaml:1: expected the registration of an application service: YAML: /),
  ]);
  const [secret] = await problemsOf({ 'irc.yaml': REGISTRATION.replace('the-token-of-the-service', 'a secret') });
  expect(secret).toBe('irc.yaml:4: as_token: expected a secret of visible characters, found "********"');
});

test('names and addresses that could not be kept or asked are refused, with what was expected and without passwords', async () => {
  for (const id of ['"a\\0b"', '"a\\nb"', '"\\x7f"', '"\\ud800"', 'x'.repeat(256)]) {
    const [problem] = await problemsOf({ 'irc.yaml': REGISTRATION.replace('id: irc', `id: ${id}`) });
    expect([id, problem]).toEqual([id, expect.stringMatching(/^irc\.yaml:2: id: expected (a name|at most 255)/)]);
  }
  for (const [member, text] of [
    ['as_token', 'the-token-of-the-service'],
    ['hs_token', 'the-token-of-the-server'],
    ['sender_localpart', 'ircbot'],
  ] as const) {
    const [problem] = await problemsOf({ 'irc.yaml': REGISTRATION.replace(text, '"a\\0b"') });
    expect(problem).toMatch(new RegExp(`^irc\\.yaml:\\d: ${member}: expected a `));
  }
  const withUrl = (url: string) => problemsOf({ 'irc.yaml': REGISTRATION.replace('http://localhost:9000/', url) });
  const bad = [
    'http://a b',
    '" http://a"',
    '"http://a\\0"',
    '"http://a\\tb"',
    'http://a?x=1',
    '"http://a#x"',
    'http://a?',
  ];
  for (const url of bad) {
    expect([url, await withUrl(url)]).toEqual([url, [expect.stringMatching(/^irc\.yaml:3: url: expected a URL such/)]]);
  }
  expect(await withUrl('http://me:hidden@a')).toEqual([
    'irc.yaml:3: url: expected a URL such as http://localhost:9000, or null, found "********"',
  ]);
  expect(await withUrl('http://[::1]:9000/bridge/')).toEqual([]);
});

test('a file that holds no registration but a list or a text is told what one looks like', async () => {
  for (const text of ['- id: irc', 'irc']) {
    expect(await problemsOf({ 'irc.yaml': text })).toEqual([
      'irc.yaml:1: expected the registration of an application service: keys with values, such as "id: irc"',
    ]);
  }
});

test('expressions that are long, or large when their repetitions are written out, are refused alone and together', async () => {
  const withRegex = (...regexes: readonly string[]) => {
    const users = JSON.stringify(regexes.map((regex) => ({ regex })));
    return problemsOf({ 'irc.yaml': REGISTRATION.replace(/namespaces:[^]*/, `namespaces: { users: ${users} }`) });
  };
  const [large] = await withRegex('@x', '(.?){1000}');
  expect(large).toContain(
    'namespaces.users.1.regex: expected a regular expression with smaller numbers of repetitions',
  );
  expect((await withRegex('x'.repeat(513)))[0]).toContain('expected a regular expression of at most 512 characters');
  const together =
    'namespaces: expected fewer or simpler regular expressions, those of all application services together';
  const [many] = await withRegex(...Array.from({ length: 50 }, () => '(.?){200}'));
  expect(many).toContain(together);
  expect(await withRegex('(.?){200}', '@[a-z]{1,64}_irc:here\\.test', 'x'.repeat(512))).toEqual([]);
});

test('the expressions of all services together are bounded, since each new id is held against all of them', async () => {
  const users = JSON.stringify(Array.from({ length: 20 }, () => ({ regex: '(.?){200}' })));
  const named = (id: string): string =>
    REGISTRATION.replace(/namespaces:[^]*/, `namespaces: { users: ${users} }`)
      .replace('id: irc', `id: ${id}`)
      .replace('ircbot', `${id}bot`)
      .replace('the-token-of-the-service', `${id}-token`);
  expect(await problemsOf({ 'a.yaml': named('a') })).toEqual([]);
  expect(await problemsOf({ 'a.yaml': named('a'), 'b.yaml': named('b'), 'c.yaml': named('c') })).toEqual([
    expect.stringMatching(/^b\.yaml:\d+: namespaces: expected fewer or simpler regular expressions, those of all /),
  ]);
});

test('a file that is not there is named, and so are two services with one id, token or sender', async () => {
  const { folder } = await loaded({});
  const settings = { server_name: HERE, app_service_config_files: ['none.yaml'] };
  await writeFile(join(folder, 'rejoinder.yaml'), JSON.stringify(settings));
  expect(() => loadConfig({ path: join(folder, 'rejoinder.yaml'), env: {} })).toThrow(
    `${folder}/none.yaml: expected the registration of an application service: a readable file (ENOENT)`,
  );
  const problems = await problemsOf({ 'one.yaml': REGISTRATION, 'two.yaml': REGISTRATION });
  expect(problems.map((line) => line.replace(/: expected.*/, ''))).toEqual([
    ...['two.yaml:2: id', 'two.yaml:4: as_token', 'two.yaml:6: sender_localpart'],
  ]);
});

function withUsers(...regexes: readonly string[]): AppService {
  const users = regexes.map((regex) => ({ regex, exclusive: true }));
  const tree = { id: 'x', url: null, as_token: 'a', hs_token: 'b', sender_localpart: 'bot', namespaces: { users } };
  const read = readRegistration(tree, HERE);
  if (!read.ok) throw new Error(JSON.stringify(read.problems));
  return read.service;
}

test('an expression matches from the beginning of an id on, and the sender is always in the namespace', () => {
  const service = withUsers('@irc_.*:here\\.test');
  const matches = [
    '@irc_x:here.test',
    '@irc_x:here.test.example',
    '@bot:here.test',
    '@x@irc_:here.test',
    '@irc:here.test',
  ];
  expect(matches.map((userId) => matchOf(service, 'users', userId) !== null)).toEqual([true, true, true, false, false]);
});

test('the beginnings of what an expression matches are read from it, and never more than it says', () => {
  const beginnings = [
    ['@irc_.*:here\\.test', '@irc_'],
    ['^@irc\\.x=/-_', '@irc.x=/-_'],
    ['@irc_*x', '@irc'],
    ['@irc_?x', '@irc'],
    ['@irc_{0,2}x', '@irc'],
    ['@irc_+x', '@irc_'],
    ['@i[rR]c', '@i'],
    ['@a\\d', '@a'],
  ] as const;
  for (const [regex, beginning] of beginnings) {
    expect([regex, beginningsOf(withUsers(regex))]).toEqual([regex, ['@bot:here.test', beginning]]);
  }
  for (const regex of ['@irc_|@x', '(?i)@irc', '.*', '[@]x', '\\Q@x', '@?x']) {
    expect([regex, beginningsOf(withUsers(regex))]).toEqual([regex, ['']]);
  }
  expect(beginningsOf(withUsers(...Array.from({ length: 60 }, (_, i) => `@x${i}_`)))).toEqual(['']);
});

test('no expression takes longer than in proportion to the id, whatever it repeats', () => {
  const service = withUsers('@(a+)+$', '@(a|a)*b', '@(.*)*(.*)*(.*)*x');
  const since = performance.now();
  for (let i = 0; i < 100; i += 1) expect(matchOf(service, 'users', `@${'a'.repeat(253)}!`)).toBeNull();
  expect(performance.now() - since).toBeLessThan(2_000);
});
