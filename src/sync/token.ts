/**
 * Tokens of `/sync`: `s1_<position>`, a version and a position of the one counter (src/store/journal/positions.ts).
 *
 * Where a response had to show a state event that is not the current one of its place, the client's state is wrong until the next
 * response puts it right. Its token says from where: `s1_<position>_<from>`. All such events were shown between the two, so a
 * token needs no memory on our side, and a retry gives the same.
 */
import { SyncError } from './error.ts';

export interface SyncToken {
  /** Everything up to it has been given. */
  readonly position: number;
  /** Places of state events that were shown after it are to be put right; `null`: there are none. */
  readonly owedSince: number | null;
}

const FORM = /^s1_(0|[1-9]\d{0,15})(?:_(0|[1-9]\d{0,15}))?$/;

/** Throws a `SyncError` for what is no such token. `name`: of the parameter that it was given in. */
export function parseToken(text: string, name = 'since'): SyncToken {
  const [, position, from] = FORM.exec(text) ?? [];
  const token = { position: Number(position), owedSince: from === undefined ? null : Number(from) };
  if (position !== undefined && Number.isSafeInteger(token.position) && (token.owedSince ?? 0) <= token.position) {
    return token;
  }
  throw new SyncError('invalid', `${name}: no token of a sync`);
}

/** As `parseToken` reads it. */
export function formatToken({ position, owedSince }: SyncToken): string {
  return `s1_${position}${owedSince === null ? '' : `_${owedSince}`}`;
}

/** Where older events than this one are to be looked for: a token of another kind, which `/sync` refuses. */
export function formatPrevBatch({ depth, shownAt }: { readonly depth: number; readonly shownAt: number }): string {
  return `t${depth}_${shownAt}`;
}
