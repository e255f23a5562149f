/**
 * The ledger of one answer: which events are wanted of it, which are at hand, and why the others are not. Pure: whoever
 * receives and checks events tells it what became of each (state-intake.ts).
 */
import { bytes } from '../../columns/column.ts';
import { EventIdTable } from '../../columns/event-id-table.ts';
import { type EventId, type ServerName } from '../../matrix/identifiers.ts';
import { type MissingWhy, type UnusableEvent } from '../../resync/degraded.ts';
import { type LackedEvent } from '../../store/events/missing-events.ts';
import { type HeldEvents } from '../../store/events/pdus.ts';
import { type CheckOutcome } from '../../verification/contract.ts';

/** An event of another room. No resident has a better copy, so it is dropped at once. */
const OTHER_ROOM = 'event.room';
/** Ids named in a failure reason. */
const IDS_NAMED_MAX = 3;

/** Of a row: it is wanted; and it is not at hand, one look for each event that comes. */
const WANTED = 1;
const LACKING = 2;

const NOTHING_KNOWN: HeldEvents = { held: new Set(), foreign: new Set() };

/** What came and could not be used. */
type Unusable = { readonly type: string | null } & (
  | { readonly why: 'badly-signed'; readonly signer: ServerName }
  | { readonly why: 'key-missing'; readonly key: string }
  | { readonly why: 'malformed'; readonly reason: string }
);

export type UncheckedOutcome = Exclude<CheckOutcome, { outcome: 'passed' | 'skipped' }>;

export class WantedEvents {
  /** All that was ever wanted; columns of others go by its rows (../judge/outlier-table.ts). */
  readonly ids: EventIdTable;
  private readonly marks = bytes();
  private wanted = 0;
  private lacking = 0;
  private held = 0;
  private readonly unusable = new Map<EventId, Unusable>();
  private readonly deniedBy = new Map<EventId, Set<ServerName>>();
  private readonly gone = new Map<EventId, MissingWhy>();
  private readonly passedOver = new Set<EventId>();
  private readonly never: UnusableEvent[] = [];
  /** Malformed beyond an id: any of the missing ones may have been among them. */
  private nameless = 0;

  /**
   * @param wanted a table of ids is taken over, and not copied: a state's is the largest thing that is known of it
   * @param known what is stored of the wanted ones. What is an event of another room is none of a state of this one.
   */
  constructor(wanted: Iterable<EventId> = [], known: HeldEvents = NOTHING_KNOWN) {
    if (wanted instanceof EventIdTable) {
      this.ids = wanted;
      for (let row = 0; row < wanted.size; row += 1) this.wantRow(row);
      this.know(known);
    } else {
      this.ids = new EventIdTable();
      this.want(wanted, known);
    }
  }

  get count(): number {
    return this.wanted;
  }

  get heldBefore(): number {
    return this.held;
  }

  get lackingCount(): number {
    return this.lacking;
  }

  /** Neither to be verified nor to be stored: it is at hand, or nobody wants it. */
  isIdle(eventId: EventId): boolean {
    return !this.isLacking(eventId);
  }

  isAtHand(eventId: EventId): boolean {
    const row = this.ids.rowOf(eventId);
    return row !== undefined && this.marks.get(row) === WANTED;
  }

  /** Further events are wanted; `known` as in the constructor. */
  want(eventIds: Iterable<EventId>, known: HeldEvents = NOTHING_KNOWN): void {
    for (const eventId of eventIds) this.wantRow(this.ids.add(eventId));
    this.know(known);
  }

  /** What is stored of those that are wanted. */
  know({ held, foreign }: HeldEvents): void {
    for (const eventId of held) if (this.settle(eventId)) this.held += 1;
    this.drop(foreign);
  }

  /** It came and passed its checks. */
  take(eventId: EventId): void {
    this.settle(eventId);
    this.unusable.delete(eventId);
  }

  /**
   * It came and did not pass, with a whole answer of `server`, or when it was asked for by its id. A good copy that was there
   * before, or comes later, counts all the same.
   */
  refuse(outcome: UncheckedOutcome, server?: ServerName): void {
    const { eventId } = outcome;
    if (eventId === null) {
      this.nameless += 1;
      return;
    }
    if (this.isIdle(eventId)) return;
    if (server !== undefined) this.deny([eventId], server);
    const { type } = outcome;
    switch (outcome.outcome) {
      case 'bad-signature':
        this.unusable.set(eventId, { why: 'badly-signed', type, signer: outcome.serverName });
        return;
      case 'key-missing': {
        const key = `${outcome.serverName} ${outcome.keyId ?? ''}`.trim();
        this.unusable.set(eventId, { why: 'key-missing', type, key });
        return;
      }
      case 'malformed':
        if (outcome.rule === OTHER_ROOM) this.drop([eventId]);
        else this.unusable.set(eventId, { why: 'malformed', type, reason: outcome.reason });
        return;
    }
  }

  /** The server was asked and has answered, and does not give them, or not in a form that can be used. */
  deny(eventIds: Iterable<EventId>, server: ServerName): void {
    for (const eventId of eventIds) {
      const others = this.deniedBy.get(eventId);
      if (others === undefined) this.deniedBy.set(eventId, new Set([server]));
      else others.add(server);
    }
  }

  /** In the order in which they were wanted first. */
  *all(): Generator<EventId, void, undefined> {
    for (let row = 0; row < this.ids.size; row += 1) {
      if ((this.marks.get(row) & WANTED) !== 0) yield this.ids.idOf(row);
    }
  }

  missing(): EventId[] {
    if (this.lacking === 0) return [];
    const missing: EventId[] = [];
    for (let row = 0; row < this.ids.size; row += 1) {
      if ((this.marks.get(row) & LACKING) !== 0) missing.push(this.ids.idOf(row));
    }
    return missing;
  }

  lacked(): LackedEvent[] {
    return this.missing().map((eventId) => {
      const type = this.unusable.get(eventId)?.type ?? null;
      return { eventId, why: this.why(eventId), type, askedOf: [...(this.deniedBy.get(eventId) ?? [])] };
    });
  }

  why(eventId: EventId): MissingWhy {
    return this.unusable.get(eventId)?.why ?? this.gone.get(eventId) ?? 'not-delivered';
  }

  badlySigned(): EventId[] {
    return this.missing().filter((eventId) => this.why(eventId) === 'badly-signed');
  }

  /** Whose signature on a badly signed event was wrong: who to ask for a better one. */
  signerOf(eventId: EventId): ServerName | undefined {
    const unusable = this.unusable.get(eventId);
    return unusable?.why === 'badly-signed' ? unusable.signer : undefined;
  }

  /** Goes on without what came from everybody who was asked in a form that cannot be used. */
  dropUnusable(events: readonly UnusableEvent[]): void {
    this.never.push(...events);
    this.drop(events.map(({ eventId }) => eventId));
  }

  neverUsable(): readonly UnusableEvent[] {
    return this.never;
  }

  /** Goes on without what can never be used. */
  drop(eventIds: Iterable<EventId>): void {
    for (const eventId of eventIds) if (this.unwant(eventId)) this.passedOver.add(eventId);
  }

  /** Goes on without what could not be had, and remembers it as missing. */
  goOnWithout(eventIds: Iterable<EventId>): void {
    for (const eventId of eventIds) {
      this.gone.set(eventId, this.why(eventId));
      this.unwant(eventId);
    }
  }

  isGone(eventId: EventId): boolean {
    return this.gone.has(eventId) || this.passedOver.has(eventId);
  }

  /** Wanted, and gone on without, because it could not be had. */
  goneWithout(): ReadonlyMap<EventId, MissingWhy> {
    return this.gone;
  }

  /** Wanted, and gone on without, because it can never be used. */
  dropped(): ReadonlySet<EventId> {
    return this.passedOver;
  }

  /** All that is missing came, signed with keys that cannot be had. */
  lacksKeysAlone(): boolean {
    return this.missing().every((eventId) => this.why(eventId) === 'key-missing');
  }

  /** What is missing and why, in words; `undefined`: nothing. */
  holes(): string | undefined {
    const missing = this.missing();
    if (missing.length === 0) return undefined;
    const reasons: string[] = [];
    const of = (why: MissingWhy): EventId[] => missing.filter((eventId) => this.why(eventId) === why);
    const keyless = of('key-missing');
    if (keyless.length > 0) {
      reasons.push(`${keyless.length} events signed with keys that cannot be had (${this.keysOf(keyless)})`);
    }
    const wrong = of('badly-signed');
    if (wrong.length > 0) reasons.push(`${wrong.length} events with a wrong signature (${named(wrong)})`);
    const [misshapen] = of('malformed');
    if (misshapen !== undefined) {
      const unusable = this.unusable.get(misshapen);
      const reason = unusable?.why === 'malformed' ? unusable.reason : '';
      reasons.push(`malformed events (${misshapen}: ${reason})`);
    }
    const absent = of('not-delivered');
    if (absent.length > 0) {
      const nameless = this.nameless === 0 ? '' : `; ${this.nameless} others came malformed beyond an id`;
      reasons.push(`${absent.length} events named but not delivered (${named(absent)}${nameless})`);
    }
    return reasons.join('; ');
  }

  private wantRow(row: number): void {
    if ((this.marks.get(row) & WANTED) !== 0) return;
    this.marks.set(row, WANTED | LACKING);
    this.wanted += 1;
    this.lacking += 1;
  }

  private isLacking(eventId: EventId): boolean {
    const row = this.ids.rowOf(eventId);
    return row !== undefined && (this.marks.get(row) & LACKING) !== 0;
  }

  /** It lacks no more; `false`: it did not. */
  private settle(eventId: EventId): boolean {
    const row = this.ids.rowOf(eventId);
    if (row === undefined || (this.marks.get(row) & LACKING) === 0) return false;
    this.marks.set(row, WANTED);
    this.lacking -= 1;
    return true;
  }

  private unwant(eventId: EventId): boolean {
    this.settle(eventId);
    const row = this.ids.rowOf(eventId);
    if (row === undefined || this.marks.get(row) === 0) return false;
    this.marks.set(row, 0);
    this.wanted -= 1;
    return true;
  }

  private keysOf(eventIds: readonly EventId[]): string {
    const keys = eventIds.map((eventId) => {
      const unusable = this.unusable.get(eventId);
      return unusable?.why === 'key-missing' ? unusable.key : '';
    });
    return [...new Set(keys)].slice(0, IDS_NAMED_MAX).join(', ');
  }
}

function named(ids: readonly EventId[]): string {
  return `${ids.slice(0, IDS_NAMED_MAX).join(', ')}${ids.length > IDS_NAMED_MAX ? ', …' : ''}`;
}
