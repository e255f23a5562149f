/**
 * Tokens that clients are given, and give back.
 *
 * Of `/sync`: `s1_<position>`, a version and a position of the one counter (src/store/journal/positions.ts). Where a response had to
 * show a state event that is not the current one of its place, the client's state is wrong until the next response puts it right. Its
 * token says from where: `s1_<position>_<from>`. All such events were shown between the two, so a token needs no memory on our side, and
 * a retry gives the same. Where a device has more messages waiting than a response holds, a last part, `.<position>`, says up to where it has
 * been given these; the next response comes at once.
 *
 * Of a room's events the same, since they are shown by position: a token stands after the event of its position, and before the next one.
 * What lies before a stay of ours in the room has no positions. There a token counts: `h1_<stay>_<count>` stands before the event that is
 * so many back from where the stay began.
 */

export interface SyncToken {
  /** Everything up to it has been given. */
  readonly position: number;
  /** Places of state events that were shown after it are to be put right; `null`: there are none. */
  readonly owedSince: number | null;
  /** Messages to the device have been given up to here; `null`: up to the position. */
  readonly toDevice: number | null;
}

/** Between two events of a room. */
export type RoomPoint =
  | { readonly kind: 'timeline'; readonly position: number }
  /** `count`: of the events before the stay, the newest first, those that come after the point. */
  | { readonly kind: 'history'; readonly epoch: number; readonly count: number };

const COUNT = '(0|[1-9]\\d{0,15})';
const SYNC = new RegExp(`^s1_${COUNT}(?:_${COUNT})?(?:\\.${COUNT})?$`);
/** As `prev_batch` was given before: it stands before the event of its position. */
const BEFORE = new RegExp(`^t${COUNT}_${COUNT}$`);
const HISTORY = /^h1_([1-9]\d{0,8})_(0|[1-9]\d{0,8})$/;

/** `undefined`: it is no token of a sync. */
export function readSyncToken(text: string): SyncToken | undefined {
  const [, position, from, device] = SYNC.exec(text) ?? [];
  const token = {
    position: Number(position),
    owedSince: from === undefined ? null : Number(from),
    toDevice: device === undefined ? null : Number(device),
  };
  const isGood = position !== undefined && Number.isSafeInteger(token.position);
  return isGood && Math.max(token.owedSince ?? 0, token.toDevice ?? 0) <= token.position ? token : undefined;
}

/** As `readSyncToken` reads it. */
export function formatSyncToken({ position, owedSince, toDevice }: SyncToken): string {
  return `s1_${position}${owedSince === null ? '' : `_${owedSince}`}${toDevice === null ? '' : `.${toDevice}`}`;
}

/** `undefined`: it is no token of a room's events. */
export function readRoomPoint(text: string): RoomPoint | undefined {
  const sync = readSyncToken(text);
  if (sync !== undefined) return { kind: 'timeline', position: sync.position };
  const [, , before] = BEFORE.exec(text) ?? [];
  if (before !== undefined && Number.isSafeInteger(Number(before))) {
    return { kind: 'timeline', position: Math.max(0, Number(before) - 1) };
  }
  const [, epoch, count] = HISTORY.exec(text) ?? [];
  return epoch === undefined ? undefined : { kind: 'history', epoch: Number(epoch), count: Number(count) };
}

/** As `readRoomPoint` reads it. */
export function formatRoomPoint(point: RoomPoint): string {
  if (point.kind === 'history') return `h1_${point.epoch}_${point.count}`;
  return formatSyncToken({ position: point.position, owedSince: null, toDevice: null });
}
