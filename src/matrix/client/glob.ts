/**
 * Patterns as push rules have them: `*` stands for any characters, `?` for one, and letters are the same in both cases. No pattern
 * takes longer than its length times that of the text.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#glob-style-matching
 */

export interface Glob {
  /** What stands between the stars, in lower case. */
  readonly pieces: readonly string[];
  readonly isLiteral: boolean;
  /** How many times a text is gone through at the most. */
  readonly cost: number;
}

/** `isLiteral`: stars and question marks are themselves. */
export function parseGlob(pattern: string, { isLiteral = false } = {}): Glob {
  const text = pattern.toLowerCase();
  const pieces = isLiteral ? [text] : text.split(/\*+/);
  const wild = isLiteral ? 0 : Math.max(0, ...pieces.map((piece) => (piece.includes('?') ? piece.length : 0)));
  return { pieces, isLiteral, cost: 1 + wild };
}

/** Whether a pattern is all of a text. */
export function isWhole(glob: Glob, value: string): boolean {
  const text = value.toLowerCase();
  const [first = '', ...rest] = glob.pieces;
  const last = rest.pop();
  if (!fits(glob, first, text, 0)) return false;
  if (last === undefined) return first.length === text.length;
  const end = text.length - last.length;
  const at = afterPieces(glob, rest, text, first.length);
  return at !== null && at <= end && fits(glob, last, text, end);
}

/** Whether a pattern is found in a text with no letter, digit or underscore beside it. */
export function isWithin(glob: Glob, value: string): boolean {
  const text = value.toLowerCase();
  const [first = '', ...rest] = glob.pieces;
  const last = rest.pop();
  const isOne = last === undefined;
  // The star takes whatever lies between, so the first place is as good as any.
  const begin = find(glob, first, text, 0, (at) => isEdge(text, at) && (!isOne || isEdge(text, at + first.length)));
  if (begin === null) return false;
  if (isOne) return true;
  const at = afterPieces(glob, rest, text, begin + first.length);
  return at !== null && find(glob, last, text, at, (from) => isEdge(text, from + last.length)) !== null;
}

/** Where the text goes on after all pieces, each found as early as may be; `null`: one is not there. */
function afterPieces(glob: Glob, pieces: readonly string[], text: string, from: number): number | null {
  let at = from;
  for (const piece of pieces) {
    const found = find(glob, piece, text, at, () => true);
    if (found === null) return null;
    at = found + piece.length;
  }
  return at;
}

function find(glob: Glob, piece: string, text: string, from: number, isGood: (at: number) => boolean): number | null {
  const isWild = !glob.isLiteral && piece.includes('?');
  for (let at = from; at + piece.length <= text.length; at += 1) {
    if (!isWild) {
      at = text.indexOf(piece, at);
      if (at < 0) return null;
    } else if (!fits(glob, piece, text, at)) {
      continue;
    }
    if (isGood(at)) return at;
  }
  return null;
}

function fits({ isLiteral }: Glob, piece: string, text: string, at: number): boolean {
  if (at < 0 || at + piece.length > text.length) return false;
  if (isLiteral || !piece.includes('?')) return text.startsWith(piece, at);
  for (let i = 0; i < piece.length; i += 1) if (piece[i] !== '?' && piece[i] !== text[at + i]) return false;
  return true;
}

function isEdge(text: string, at: number): boolean {
  return !isWordAt(text, at - 1) || !isWordAt(text, at);
}

function isWordAt(text: string, at: number): boolean {
  return at >= 0 && at < text.length && /[A-Za-z0-9_]/.test(text.charAt(at));
}
