/**
 * The events of one answer as judging needs them: what auth rules read of each, in columns. A state of a million events is judged
 * in memory, so that what is kept of each is some hundred bytes outside of V8's heap; as objects they were a kilobyte.
 */
import { type Column, bytes, int32s, numbers, uint32s } from '../../columns/column.ts';
import { EventIdTable } from '../../columns/event-id-table.ts';
import { TextArena } from '../../columns/text-arena.ts';
import { invariant } from '../../invariant.ts';
import { impliedAuthEvents } from '../../matrix/auth/auth-events.ts';
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type AuthViews, type ViewedEvent, createAuthViews } from './auth-view.ts';

/** What is known of an event; `open`: it is being judged. */
export type OutlierStanding = 'accepted' | 'rejected' | 'unjudged' | 'open' | 'waiting';

/** By their numbers in the column. What was never put in has none. */
const VERDICTS: readonly (OutlierStanding | undefined)[] = [
  undefined,
  'waiting',
  'open',
  'accepted',
  'rejected',
  'unjudged',
];

/** No state key, and one that is the sender, where a place would be. */
const NO_TEXT = 0xffffffff;
const AS_SENDER = 0xfffffffe;
/** Where numbers are not known, and where it is known that there is none. */
const NOT_KNOWN = 0;
const NO_STATE_KEY = -1;
const NO_DEPTH = -1;
/** Lists that are looked at for one that is the same; a power of two. */
const RECENT_LISTS = 1_024;
/** Rows of events that were cited lately: to find one among a million takes several times as long. */
const CITED_LATELY_MAX = 512;
/** Lists whose ids are kept as strings: most events cite one of a few. */
const READ_LISTS_MAX = 256;

/** An event that is put in, and what is known of it. */
export interface PutOutlier {
  readonly event: ViewedEvent;
  readonly verdict: OutlierStanding;
  /** Greater than that of every event in its auth chain; `null`: not known, or not yet. */
  readonly authDepth: number | null;
  /** As far as they are known. */
  readonly nid?: number | undefined;
  /** `null`: it is no state event. */
  readonly stateKeyNid?: number | null | undefined;
}

/** Type and content of plain events: a handful in all. */
interface Kind {
  readonly type: string;
  readonly content: JsonObject;
}

export class OutlierTable {
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  /** Of the events that are put in and of those they cite. */
  readonly ids: EventIdTable;
  /** Somebody else gave them a verdict meanwhile, which stands: maybe another one. */
  readonly judgedByOthers = new Set<EventId>();
  readonly #views: AuthViews;
  readonly #implied: readonly number[];
  readonly #verdicts = bytes();
  readonly #depths = int32s();
  readonly #nids = numbers();
  readonly #stateKeyNids = numbers();
  readonly #kinds = uint32s();
  readonly #senders = uint32s();
  readonly #stateKeys = uint32s();
  /** Where its auth events begin in `#cited`: how many, then their rows. */
  readonly #lists = uint32s();
  /** The row of its only parent and one; 0: it has none that the rules ask for. */
  readonly #parents = uint32s();
  readonly #texts = new TextArena();
  readonly #kindList: Kind[] = [];
  readonly #kindsByType = new Map<string, number>();
  readonly #kindsByContent = new Map<JsonObject, number>();
  /** Events whose content is read beyond a membership. */
  readonly #whole = new Map<number, Pdu>();
  readonly #cited: Column<Uint32Array> = uint32s();
  #citedEnd = 0;
  readonly #recentLists = new Uint32Array(RECENT_LISTS);
  readonly #citedLately = new Map<EventId, number>();
  readonly #readLately = new Map<number, EventId>();
  readonly #readLists = new Map<number, readonly EventId[]>();

  constructor(roomId: RoomId, rules: RoomVersionRules, ids = new EventIdTable()) {
    this.roomId = roomId;
    this.rules = rules;
    this.ids = ids;
    this.#views = createAuthViews(roomId, rules);
    this.#implied = impliedAuthEvents(roomId, rules).map((eventId) => ids.add(eventId));
  }

  /** Characters of events that had to be kept whole, and of single strings that were kept of others. */
  wholeCharacters(): number {
    return this.#views.wholeCharacters();
  }

  /** Puts an event in, in the place of what was known of it; gives its row. */
  put({ event, verdict, authDepth, nid, stateKeyNid }: PutOutlier): number {
    const { pdu, isWhole } = this.#views.view(event);
    const row = this.ids.add(pdu.eventId);
    if (isWhole) this.#whole.set(row, pdu);
    else this.#whole.delete(row);
    this.#kinds.set(row, this.#kindOf(pdu, isWhole));
    this.#senders.set(row, this.#texts.add(pdu.sender));
    const { stateKey } = pdu;
    const asSender = stateKey === pdu.sender ? AS_SENDER : undefined;
    this.#stateKeys.set(row, asSender ?? (stateKey === undefined ? NO_TEXT : this.#texts.add(stateKey)));
    this.#lists.set(row, this.#listOf(pdu.authEvents.map((eventId) => this.#rowOfCited(eventId))));
    const [parent] = pdu.prevEvents;
    this.#parents.set(row, isWhole || parent === undefined ? 0 : this.ids.add(parent) + 1);
    this.judge(row, verdict, authDepth);
    this.number(row, nid, stateKeyNid);
    return row;
  }

  /** By which numbers the event and its place in a state go, as far as they are known. */
  number(row: number, nid: number | undefined, stateKeyNid: number | null | undefined): void {
    this.#nids.set(row, nid ?? NOT_KNOWN);
    this.#stateKeyNids.set(row, stateKeyNid === null ? NO_STATE_KEY : (stateKeyNid ?? NOT_KNOWN));
  }

  judge(row: number, verdict: OutlierStanding, authDepth: number | null): void {
    this.#verdicts.set(row, VERDICTS.indexOf(verdict));
    this.#depths.set(row, authDepth ?? NO_DEPTH);
  }

  /** `undefined`: it is not here. */
  verdictAt(row: number): OutlierStanding | undefined {
    return VERDICTS[this.#verdicts.get(row)];
  }

  authDepthAt(row: number): number | null {
    const depth = this.#depths.get(row);
    return depth === NO_DEPTH ? null : depth;
  }

  nidAt(row: number): number | undefined {
    const nid = this.#nids.get(row);
    return nid === NOT_KNOWN ? undefined : nid;
  }

  /** Of a state event; `undefined`: not known. */
  stateKeyNidAt(row: number): number | undefined {
    const nid = this.#stateKeyNids.get(row);
    return nid === NOT_KNOWN || nid === NO_STATE_KEY ? undefined : nid;
  }

  typeAt(row: number): string {
    return this.#kindAt(row).type;
  }

  isStateAt(row: number): boolean {
    return this.#stateKeys.get(row) !== NO_TEXT;
  }

  /** Whether it is the member event of somebody who is joined. */
  isJoinAt(row: number): boolean {
    const { type, content } = this.#whole.get(row) ?? this.#kindAt(row);
    return type === 'm.room.member' && content['membership'] === 'join';
  }

  /** Whether it is an event for this place in a state. */
  isOfPlaceAt(row: number, type: string, stateKey: string): boolean {
    const place = this.#stateKeys.get(row);
    if (place === NO_TEXT || this.typeAt(row) !== type) return false;
    return this.#texts.isAt(place === AS_SENDER ? this.#senders.get(row) : place, stateKey);
  }

  /** What auth rules read of it. */
  viewAt(row: number): Pdu {
    const whole = this.#whole.get(row);
    if (whole !== undefined) return whole;
    const { type, content } = this.#kindAt(row);
    const sender = this.#texts.get(this.#senders.get(row)) as UserId;
    const place = this.#stateKeys.get(row);
    const parent = this.#parents.get(row);
    return {
      eventId: this.ids.idOf(row),
      roomId: this.roomId,
      type,
      stateKey: place === NO_TEXT ? undefined : place === AS_SENDER ? sender : this.#texts.get(place),
      sender,
      content,
      prevEvents: parent === 0 ? [] : [this.ids.idOf(parent - 1)],
      authEvents: this.#idsOfList(this.#lists.get(row)),
      depth: 0n,
      originServerTs: 0,
      json: {},
    };
  }

  /** Rows of its auth events as the algorithms see them (`authEventIdsOf`). */
  authEventsAt(row: number): number[] {
    const list = this.#lists.get(row);
    const rows: number[] = [];
    for (let i = list + 1, end = i + this.#cited.get(list); i < end; i += 1) rows.push(this.#cited.get(i));
    if (this.typeAt(row) !== 'm.room.create') rows.push(...this.#implied);
    return rows;
  }

  verdictOf(eventId: EventId): OutlierStanding | undefined {
    const row = this.ids.rowOf(eventId);
    return row === undefined ? undefined : this.verdictAt(row);
  }

  /** Its auth events as `authEventIdsOf` has them; none of an event that is not here. */
  authEventsOf(eventId: EventId): EventId[] {
    const row = this.ids.rowOf(eventId);
    if (row === undefined || this.verdictAt(row) === undefined) return [];
    return this.authEventsAt(row).map((cited) => this.ids.idOf(cited));
  }

  /** Rows of the events with this verdict, in order. */
  *rowsWith(verdict: OutlierStanding): Generator<number, void, undefined> {
    const wanted = VERDICTS.indexOf(verdict);
    for (let row = 0; row < this.ids.size; row += 1) if (this.#verdicts.get(row) === wanted) yield row;
  }

  /** The few events that are kept whole, by row. */
  whole(): ReadonlyMap<number, Pdu> {
    return this.#whole;
  }

  #kindAt(row: number): Kind {
    const kind = this.#kindList[this.#kinds.get(row)];
    invariant(kind !== undefined, 'an event that was put in has a kind');
    return kind;
  }

  /** Contents of plain members are shared by the views. */
  #kindOf({ type, content }: Pdu, isWhole: boolean): number {
    const isMember = type === 'm.room.member' && !isWhole;
    const known = isMember ? this.#kindsByContent.get(content) : this.#kindsByType.get(type);
    if (known !== undefined) return known;
    const kind = this.#kindList.push({ type, content: isMember ? content : {} }) - 1;
    if (isMember) this.#kindsByContent.set(content, kind);
    else this.#kindsByType.set(type, kind);
    return kind;
  }

  /** Few events are cited by most others. */
  #rowOfCited(eventId: EventId): number {
    const known = this.#citedLately.get(eventId);
    if (known !== undefined) return known;
    const row = this.ids.add(eventId);
    if (this.#citedLately.size >= CITED_LATELY_MAX) this.#citedLately.clear();
    this.#citedLately.set(eventId, row);
    return row;
  }

  /** Thousands of joins cite the same: a list that stood there a while ago is not written again. */
  #listOf(rows: readonly number[]): number {
    const recent = rows.reduce((hash, row) => (Math.imul(hash, 31) + row) | 0, rows.length) & (RECENT_LISTS - 1);
    const known = this.#recentLists[recent] ?? 0;
    if (this.#citedEnd > 0 && this.#isList(known, rows)) return known;
    const list = this.#citedEnd;
    this.#cited.set(list, rows.length);
    rows.forEach((row, i) => this.#cited.set(list + 1 + i, row));
    this.#citedEnd += 1 + rows.length;
    this.#recentLists[recent] = list;
    return list;
  }

  #isList(list: number, rows: readonly number[]): boolean {
    return this.#cited.get(list) === rows.length && rows.every((row, i) => this.#cited.get(list + 1 + i) === row);
  }

  #idsOfList(list: number): readonly EventId[] {
    const known = this.#readLists.get(list);
    if (known !== undefined) return known;
    const ids: EventId[] = [];
    for (let i = list + 1, end = i + this.#cited.get(list); i < end; i += 1) {
      ids.push(this.#idOfCited(this.#cited.get(i)));
    }
    if (this.#readLists.size >= READ_LISTS_MAX) this.#readLists.clear();
    this.#readLists.set(list, ids);
    return ids;
  }

  #idOfCited(row: number): EventId {
    const known = this.#readLately.get(row);
    if (known !== undefined) return known;
    const eventId = this.ids.idOf(row);
    if (this.#readLately.size >= CITED_LATELY_MAX) this.#readLately.clear();
    this.#readLately.set(row, eventId);
    return eventId;
  }
}
