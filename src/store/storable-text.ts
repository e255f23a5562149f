/**
 * PostgreSQL's text holds neither NUL nor a lone surrogate, and an event's type or state key may hold both. They are
 * written as U+0001 and four hex digits, U+0001 itself too, so that different strings stay different.
 */
const UNSTORABLE = /[\u0000\u0001\p{Surrogate}]/gu;
const ESCAPED = /\u0001([0-9a-f]{4})/g;

const PLAIN = /^[ -~]*$/;

/** What the database holds for `text`; nearly always `text` itself. */
export function storable(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(UNSTORABLE, (unit) => `\u0001${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** The string that `storable` was given. */
export function fromStorable(stored: string): string {
  if (!stored.includes('\u0001')) return stored;
  return stored.replace(ESCAPED, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** For reasons, which quote events and are read by people: what text cannot hold is replaced. */
export function displayable(text: string): string {
  return text.replace(/[\0\p{Surrogate}]/gu, '\ufffd');
}
