/**
 * Which servers a room's m.room.server_acl lets take part. The room's members decide it, so it is a stranger's list: a
 * pattern is matched in time that grows with its length times the name's, whatever it holds.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#mroomserver_acl
 */
import { type ServerName } from './identifiers.ts';
import { type Json, type JsonObject } from './pdu.ts';

const PORT = /:\d{1,5}$/;
const IPV4_LITERAL = /^\d{1,3}(?:\.\d{1,3}){3}$/;

/** `content`: of the room's m.room.server_acl event; `undefined` where it has none, and everybody may take part. */
export function isServerAllowed(content: JsonObject | undefined, serverName: ServerName): boolean {
  if (content === undefined) return true;
  // Ports are no part of it: a denied server must not come back on another one.
  const host = serverName.replace(PORT, '').toLowerCase();
  const isIpLiteral = host.startsWith('[') || IPV4_LITERAL.test(host);
  if (isIpLiteral && content['allow_ip_literals'] === false) return false;
  if (patternsOf(content['deny']).some((pattern) => matches(pattern, host))) return false;
  return patternsOf(content['allow']).some((pattern) => matches(pattern, host));
}

/** A list that is none is empty, and so nobody is allowed; what is no text in it is passed over. */
function patternsOf(list: Json | undefined): string[] {
  if (!Array.isArray(list)) return [];
  const patterns = (list as readonly Json[]).filter((item) => typeof item === 'string');
  return patterns.map((pattern) => pattern.toLowerCase());
}

/** Globs of `*`, any number of characters, and `?`, exactly one. Of several stars only the last is ever tried again. */
function matches(pattern: string, text: string): boolean {
  let at = 0;
  let star = -1;
  let resumeAt = 0;
  let i = 0;
  while (i < text.length) {
    if (at < pattern.length && pattern[at] === '*') {
      star = at++;
      resumeAt = i;
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === text[i])) {
      at++;
      i++;
    } else if (star >= 0) {
      at = star + 1;
      i = ++resumeAt;
    } else {
      return false;
    }
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}
