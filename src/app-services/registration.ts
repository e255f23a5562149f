/**
 * What an application service is registered as: its file, read into what this server goes by.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#registration
 */
import { RE2JS } from 're2js';
import { z } from 'zod';
import { type ServerName, type UserId, parseUserId } from '../matrix/identifiers.ts';

/** What a namespace is of. */
export type NamespaceKind = 'users' | 'aliases' | 'rooms';

export interface Namespace {
  readonly isExclusive: boolean;
  /** From the beginning of an id on; matching takes time in proportion to the id, whatever the expression. */
  readonly pattern: RE2JS;
}

export interface AppService {
  readonly id: string;
  /** Where it is reached, without a slash at the end; `null`: it wants to be told nothing. */
  readonly url: string | null;
  /** By which it shows us that it is itself. */
  readonly asToken: string;
  /** By which we show it that we are ourselves. */
  readonly hsToken: string;
  /** Who acts where the service names nobody. */
  readonly sender: UserId;
  readonly namespaces: Readonly<Record<NamespaceKind, readonly Namespace[]>>;
  /** Whether its users, all but `sender`, are held by the limits on what users send. */
  readonly isRateLimited: boolean;
  /** Members of a transaction in which it wants to be told what passes in rooms: the specification's, and that of before; none: it does not. */
  readonly ephemeralKeys: readonly ('ephemeral' | 'de.sorunome.msc2409.ephemeral')[];
}

/** Longer ones are a mistake, or are to be cut into several. */
const PATTERN_CHARS_MAX = 512;
/** Instructions that an expression is compiled into: `(.?){1000}` is short, and each character of an id is held against 4,000 of them. */
const PATTERN_SIZE_MAX = 1_000;
/** Of all expressions of all services together, each of which an id may be held against. */
export const PATTERNS_SIZE_MAX = 20_000;
const NAMESPACES_MAX = 1_000;
const ID_CHARS_MAX = 255;
const URL_EXPECTED = 'a URL such as http://localhost:9000, or null';

const text = (expected: string) => z.string({ error: expected }).min(1, { error: expected });
/** Without what PostgreSQL does not keep, and nobody could read in a log. */
const name = (expected: string) => text(expected).regex(/^[^\p{Cc}\p{Cs}]+$/u, { error: expected });
const token = (expected: string) => text(expected).regex(/^[\x21-\x7e]+$/, { error: expected });
const onOff = z.boolean({ error: 'true or false' });

const pattern = text('a regular expression').max(PATTERN_CHARS_MAX, {
  error: `a regular expression of at most ${PATTERN_CHARS_MAX} characters`,
});

const namespace = z
  .looseObject({ exclusive: onOff.default(false), regex: pattern }, { error: 'regex, and exclusive: true or false' })
  .transform(({ exclusive, regex }, context) => {
    try {
      const compiled = RE2JS.compile(regex);
      if (compiled.programSize() <= PATTERN_SIZE_MAX) return { isExclusive: exclusive, pattern: compiled };
      const message = 'a regular expression with smaller numbers of repetitions';
      context.addIssue({ code: 'custom', path: ['regex'], message });
      return z.NEVER;
    } catch (error) {
      const why = error instanceof Error ? error.message.replace(/^error parsing regexp: /, '') : 'not readable';
      const message = `a regular expression in the syntax of RE2, without look-arounds and back-references (${why})`;
      context.addIssue({ code: 'custom', path: ['regex'], message });
      return z.NEVER;
    }
  });
const listOfNamespaces = z
  .array(namespace, { error: 'a list of entries with regex and exclusive' })
  .max(NAMESPACES_MAX, { error: `at most ${NAMESPACES_MAX} entries` })
  .nullish()
  .transform((list) => list ?? []);

/** Instructions of all its expressions. */
export function sizeOf({ namespaces: { users, aliases, rooms } }: Pick<AppService, 'namespaces'>): number {
  return [...users, ...aliases, ...rooms].reduce((sum, one) => sum + one.pattern.programSize(), 0);
}

/** As the base of an address to which paths are appended. */
function isBase(url: string): boolean {
  if (!/^[^\s\p{Cc}\p{Cs}?#]+$/u.test(url) || !URL.canParse(url)) return false;
  const { protocol, username, password } = new URL(url);
  return ['http:', 'https:'].includes(protocol) && username === '' && password === '';
}

/** Members that are not here are let pass: files are written for several servers. */
const registrationSchema = z.looseObject({
  id: name('a name that no other service has').max(ID_CHARS_MAX, { error: `at most ${ID_CHARS_MAX} characters` }),
  url: z.string({ error: URL_EXPECTED }).refine(isBase, { error: URL_EXPECTED }).nullable(),
  as_token: token('a secret of visible characters'),
  hs_token: token('a secret of visible characters'),
  sender_localpart: text('the local part of a user id'),
  namespaces: z.looseObject(
    { users: listOfNamespaces, aliases: listOfNamespaces, rooms: listOfNamespaces },
    { error: 'users, aliases and rooms' },
  ),
  rate_limited: onOff.default(true),
  receive_ephemeral: onOff.default(false),
  // Source: https://github.com/matrix-org/matrix-spec-proposals/pull/2409
  'de.sorunome.msc2409.push_ephemeral': onOff.default(false),
});

/** What is wrong with a registration: where in it, in words that complete "expected …". */
export interface RegistrationProblem {
  readonly path: readonly PropertyKey[];
  readonly expected: string;
}

export type ReadRegistration =
  | { readonly ok: true; readonly service: AppService }
  | { readonly ok: false; readonly problems: readonly RegistrationProblem[] };

/** Reads a registration, parsed from YAML. Every problem is named. */
export function readRegistration(tree: unknown, serverName: ServerName): ReadRegistration {
  const parsed = registrationSchema.safeParse(tree);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(({ path, message }) => ({ path, expected: message }));
    return { ok: false, problems };
  }
  const { id, url, as_token: asToken, hs_token: hsToken, namespaces: of, ...rest } = parsed.data;
  const sender = parseUserId(`@${rest.sender_localpart}:${serverName}`);
  if (sender === undefined || !/^[a-z0-9._=/+-]+$/.test(rest.sender_localpart)) {
    return { ok: false, problems: [{ path: ['sender_localpart'], expected: 'a name of a-z, 0-9 and . _ = - / +' }] };
  }
  const { users, aliases, rooms } = of;
  return {
    ok: true,
    service: {
      ...{ id, asToken, hsToken, sender, namespaces: { users, aliases, rooms } },
      url: url === null ? null : url.replace(/\/+$/, ''),
      isRateLimited: rest.rate_limited,
      ephemeralKeys: [
        ...(rest.receive_ephemeral ? ['ephemeral' as const] : []),
        ...(rest['de.sorunome.msc2409.push_ephemeral'] ? ['de.sorunome.msc2409.ephemeral' as const] : []),
      ],
    },
  };
}

export type NamespaceMatch = 'exclusive' | 'shared' | null;

/** How an id is in a service's namespaces: in one that nobody else may have ids in, or in others; `null`: in none. Ids have at most 255 bytes. */
export function matchOf(
  { namespaces, sender }: Pick<AppService, 'namespaces' | 'sender'>,
  kind: NamespaceKind,
  id: string,
): NamespaceMatch {
  if (kind === 'users' && id === sender) return 'exclusive';
  let found: NamespaceMatch = null;
  for (const { isExclusive, pattern } of namespaces[kind]) {
    if ((found !== null && !isExclusive) || !pattern.matcher(id).lookingAt()) continue;
    if (isExclusive) return 'exclusive';
    found = 'shared';
  }
  return found;
}

/** More of them are not worth asking for. */
const BEGINNINGS_MAX = 50;

/** As one of these the id of each user begins who is in a namespace of the service: `['']` where that says nothing. */
export function beginningsOf({ namespaces, sender }: Pick<AppService, 'namespaces' | 'sender'>): readonly string[] {
  const all = new Set([sender, ...namespaces.users.map(({ pattern }) => literalBeginning(pattern.pattern()))]);
  return all.has('') || all.size > BEGINNINGS_MAX ? [''] : [...all];
}

/** What everything begins with that an expression matches; less than that where the expression is not a simple one. */
function literalBeginning(regex: string): string {
  // Of several branches nothing is common that could be told without reading them all.
  if (regex.includes('|')) return '';
  const [whole, literal = ''] = /^\^?((?:[\w@:=/-]|\\[!-/:-@[-`{-~])*)/.exec(regex) ?? [''];
  const chars = literal.replaceAll(/\\(.)/g, '$1');
  // What may be repeated no times need not be there.
  return /^[*?{]/.test(regex.slice(whole.length)) ? chars.slice(0, -1) : chars;
}
