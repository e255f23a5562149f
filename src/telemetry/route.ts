/** Names of few kinds for paths of many: identifiers become `{}`, so that traces of one endpoint share a name. */

/** Segments that name a room, event, user, alias, key or transaction: they hold a sigil, an escape, a colon or digits only. */
const IDENTIFIER_SEGMENT = /[%!$@#:]|^[0-9]+$/;

/** The path without its query and with `{}` for each identifier: `/_matrix/federation/v1/state/{}`. */
export function routeOf(path: string): string {
  const bare = path.split('?', 1)[0] ?? '';
  return bare
    .split('/')
    .map((segment) => (IDENTIFIER_SEGMENT.test(segment) ? '{}' : segment))
    .join('/');
}
