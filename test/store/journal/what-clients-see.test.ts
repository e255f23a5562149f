import { describe, expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type JournalEvent } from '../../../src/resync/entries.ts';
import { type SnapshotId } from '../../../src/resync/events.ts';
import { currentStateRows, shownAfterAll } from '../../../src/store/journal/what-clients-see.ts';

const accepted = (currentState: string) => ({ type: 'PduAccepted', currentState }) as unknown as JournalEvent;
const resolved = (currentState: string) => ({ type: 'CurrentStateResolved', currentState }) as unknown as JournalEvent;
const control = (type: string) => ({ type }) as unknown as JournalEvent;
const before = (state: string | null, partial = false) => ({ state: state as SnapshotId | null, partial });

describe('what a room was from a position on', () => {
  test('is written where its state changes, within an append too, and not for messages', () => {
    const entries = [accepted('a'), accepted('b'), accepted('b'), accepted('a')];
    expect(currentStateRows(before('a'), entries)).toEqual([
      { entry: 1, state: 'b', partial: false },
      { entry: 3, state: 'a', partial: false },
    ]);
  });

  test('is written where it becomes partial or whole, even if its state stays', () => {
    expect(currentStateRows(before(null), [control('PartialStateJoined'), accepted('a')])).toEqual([
      { entry: 1, state: 'a', partial: true },
    ]);
    expect(currentStateRows(before('a', true), [resolved('a'), control('ResyncCompleted')])).toEqual([
      { entry: 1, state: 'a', partial: false },
    ]);
    expect(currentStateRows(before('a', true), [resolved('b'), control('ResyncCompleted')])).toEqual([
      { entry: 0, state: 'b', partial: true },
      { entry: 1, state: 'b', partial: false },
    ]);
  });
});

test('an event is shown from the entry on that accepts what was rejected, or lifts its soft failure, and others show nothing', () => {
  const eventId = '$event' as EventId;
  const verdict = (type: string, was: string, is: string) => ({ type, eventId, was, is }) as unknown as JournalEvent;
  expect(
    shownAfterAll([
      verdict('EventUnPartialStated', 'accepted', 'accepted'),
      verdict('EventUnPartialStated', 'rejected', 'accepted'),
      verdict('VerdictChanged', 'accepted', 'rejected'),
      verdict('VerdictChanged', 'rejected', 'accepted'),
      verdict('SoftFailureLifted', '', ''),
    ]),
  ).toEqual([
    { entry: 1, eventId },
    { entry: 3, eventId },
    { entry: 4, eventId },
  ]);
});
