import { describe, expect, test } from 'vitest';
import { EventIdTable } from '../../../src/columns/event-id-table.ts';
import { type EventId, type KeyId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { WantedEvents } from '../../../src/rooms/resync/wanted-events.ts';

const id = (name: string): EventId => `$${name}` as EventId;
const known = (...held: EventId[]) => ({ held: new Set(held), foreign: new Set<EventId>() });
const SERVER = 'dead.test' as ServerName;
const badlySigned = (eventId: EventId) =>
  ({ outcome: 'bad-signature', eventId, type: 'm.room.topic', serverName: SERVER, reason: 'wrong' }) as const;
const keyless = (eventId: EventId) =>
  ({
    outcome: 'key-missing',
    eventId,
    type: 'm.room.power_levels',
    serverName: SERVER,
    keyId: 'ed25519:old' as KeyId,
  }) as const;
const malformed = (eventId: EventId | null, rule = 'event.depth') =>
  ({ outcome: 'malformed', eventId, type: null, rule, reason: 'depth is no number' }) as const;

describe('the ledger of an answer', () => {
  test('misses what is wanted and neither held nor taken', () => {
    const ledger = new WantedEvents([id('a'), id('b'), id('c')], known(id('a')));
    ledger.take(id('b'));
    expect(ledger.missing()).toEqual(['$c']);
    expect([ledger.isIdle(id('a')), ledger.isIdle(id('c')), ledger.isIdle(id('other'))]).toEqual([true, false, true]);
  });

  test('takes a table of ids over: each is wanted, and what is added to it later is not', () => {
    const table = new EventIdTable();
    for (const name of ['a', 'b', 'c']) table.add(id(name));
    const ledger = new WantedEvents(table, known(id('b')));
    expect(ledger.ids).toBe(table);
    table.add(id('cited'));
    expect([...ledger.all()]).toEqual(['$a', '$b', '$c']);
    expect([ledger.count, ledger.heldBefore, ledger.missing()]).toEqual([3, 1, ['$a', '$c']]);
    expect(ledger.isAtHand(id('cited'))).toBe(false);
  });

  test('has nothing to say when all is at hand', () => {
    expect(new WantedEvents([id('a')], known(id('a'))).holes()).toBeUndefined();
  });

  test('tells what came and cannot be used from what did not come', () => {
    const ledger = new WantedEvents(['a', 'b', 'c', 'd'].map(id), known());
    ledger.refuse(badlySigned(id('a')));
    ledger.refuse(keyless(id('b')));
    ledger.refuse(malformed(id('c')));
    expect(['a', 'b', 'c', 'd'].map((name) => ledger.why(id(name)))).toEqual([
      'badly-signed',
      'key-missing',
      'malformed',
      'not-delivered',
    ]);
    expect(ledger.holes()).toBe(
      '1 events signed with keys that cannot be had (dead.test ed25519:old); 1 events with a wrong signature ($a); ' +
        'malformed events ($c: depth is no number); 1 events named but not delivered ($d)',
    );
  });

  test('says that others came malformed beyond an id, where events are missing', () => {
    const ledger = new WantedEvents([id('a')], known());
    ledger.refuse(malformed(null));
    expect(ledger.holes()).toBe('1 events named but not delivered ($a; 1 others came malformed beyond an id)');
  });

  test('takes a good copy after a bad one, and minds no bad copy after a good one', () => {
    const ledger = new WantedEvents([id('a')], known());
    ledger.refuse(badlySigned(id('a')));
    expect(ledger.signerOf(id('a'))).toBe(SERVER);
    ledger.take(id('a'));
    ledger.refuse(keyless(id('a')));
    expect(ledger.holes()).toBeUndefined();
  });

  test('wants no event that is stored as one of another room, whoever names it', () => {
    const ledger = new WantedEvents([id('a'), id('b')], { held: new Set(), foreign: new Set([id('b')]) });
    ledger.want([id('c')], { held: new Set(), foreign: new Set([id('c')]) });
    expect(ledger.missing()).toEqual(['$a']);
    expect(ledger.isIdle(id('b'))).toBe(true);
    expect(ledger.dropped()).toEqual(new Set(['$b', '$c']));
  });

  test('drops an event of another room at once, and others when told to', () => {
    const ledger = new WantedEvents(['a', 'b', 'c', 'd'].map(id), known());
    ledger.refuse(malformed(id('a'), 'event.room'));
    ledger.refuse(badlySigned(id('b')));
    ledger.refuse(malformed(id('c')));
    ledger.refuse(keyless(id('d')));
    expect(ledger.missing()).toEqual(['$b', '$c', '$d']);
    ledger.drop([id('b'), id('c')]);
    expect(ledger.missing()).toEqual(['$d']);
    expect([...ledger.dropped()]).toEqual(['$a', '$b', '$c']);
  });

  test('remembers why it goes on without an event', () => {
    const ledger = new WantedEvents([id('a'), id('b')], known());
    ledger.refuse(keyless(id('a')));
    ledger.goOnWithout(ledger.missing());
    expect([...ledger.goneWithout()]).toEqual([
      ['$a', 'key-missing'],
      ['$b', 'not-delivered'],
    ]);
    expect([ledger.holes(), ledger.dropped().size]).toEqual([undefined, 0]);
  });

  test('tells who has answered and gave no copy that can be used, and the type where a copy of no use has one', () => {
    const ledger = new WantedEvents(['a', 'b', 'c'].map(id), known());
    ledger.refuse(keyless(id('a')), 'first.test' as ServerName);
    ledger.deny([id('a'), id('b')], 'second.test' as ServerName);
    expect(ledger.lacked()).toEqual([
      { eventId: '$a', why: 'key-missing', type: 'm.room.power_levels', askedOf: ['first.test', 'second.test'] },
      { eventId: '$b', why: 'not-delivered', type: null, askedOf: ['second.test'] },
      { eventId: '$c', why: 'not-delivered', type: null, askedOf: [] },
    ]);
  });

  test('counts no event that nobody wanted', () => {
    const ledger = new WantedEvents([id('a')], known(id('a')));
    ledger.refuse(badlySigned(id('x')));
    ledger.drop([id('x')]);
    expect([...ledger.dropped()]).toEqual([]);
  });
});
