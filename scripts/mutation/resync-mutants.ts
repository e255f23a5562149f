/**
 * Faults that a resync could have, each put into one place of the source: of the walk, of judging again, of corrections, of
 * folds, of admission, of check 6 and of the completion. The simulation has to find each, or a test that forces what simulated rooms
 * come to too rarely: a race, a state by a resident who lies, a chain longer than a batch (scripts/mutate-resync.ts).
 */

export interface ResyncMutant {
  readonly kind:
    | 'walk'
    | 'judging again'
    | 'correction'
    | 'fold'
    | 'admission'
    | 'check 6'
    | 'completion'
    | 'journal'
    | 'to device'
    | 'device lists';
  /** What the fault does, in words. */
  readonly name: string;
  readonly file: string;
  /** Stands once in the file, and is replaced. */
  readonly was: string;
  readonly is: string;
  /** A seed whose run differs by it, or a test that fails by it, where simulated rooms cannot get there; absent while none is known. */
  readonly foundBy?: number | FindingTest;
}

export interface FindingTest {
  readonly file: string;
  /** A part of it, which stands in no other title of the file. */
  readonly title: string;
}

const mutant =
  (kind: ResyncMutant['kind'], file: string) =>
  (name: string, was: string, is: string, foundBy?: ResyncMutant['foundBy']): ResyncMutant => ({
    ...{ kind, name, file, was, is },
    ...(foundBy === undefined ? {} : { foundBy }),
  });

const walk = mutant('walk', 'src/rooms/resync/walk.ts');
const judging = mutant('judging again', 'src/rooms/resync/judge-again.ts');
const timeline = mutant('correction', 'src/rooms/resync/correct-timeline.ts');
const outliers = mutant('correction', 'src/rooms/resync/correct-outliers.ts');
const anchors = mutant('correction', 'src/rooms/resync/correct-anchors.ts');
const events = mutant('correction', 'src/rooms/resync/correct-events.ts');
const causes = mutant('fold', 'src/store/journal/fold-corrections.ts');
const extremities = mutant('fold', 'src/store/journal/fold-extremities.ts');
const verdicts = mutant('fold', 'src/store/journal/fold-timeline.ts');
const places = mutant('fold', 'src/store/journal/fold-anchors.ts');
const members = mutant('fold', 'src/store/journal/fold-current-state.ts');
const admission = mutant('admission', 'src/rooms/judge/prepare-admission.ts');
const ends = mutant('admission', 'src/rooms/judge/batch-ends.ts');
const replay = mutant('check 6', 'src/rooms/resync/replay-check-6.ts');
const ordered = mutant('check 6', 'src/rooms/resync/ordered-extremities.ts');
const completion = mutant('completion', 'src/rooms/resync/complete-walk.ts');
const journal = mutant('journal', 'src/store/journal/write-entries.ts');

export const RESYNC_MUTANTS: readonly ResyncMutant[] = [
  walk(
    'a batch of the walk loses its last event for good',
    'const open = await stillPartial(tx, roomId, timeline);',
    'const open = (await stillPartial(tx, roomId, timeline)).slice(0, 1);\n  await tx.query(`UPDATE event_states SET partial = false WHERE room_id = $1`, [roomId]);',
    1,
  ),
  walk(
    'a room is taken for whole with a gap at which no state is known',
    'return partialEvents === 0 && (await readPartialAnchors(tx, roomId)).length === 0;',
    'return partialEvents === 0;',
    {
      file: 'test/rooms/resync/walk.pg.test.ts',
      title: 'is assumed something of first, where it is opened while the completion is worked out',
    },
  ),
  judging(
    'the walk keeps the verdict by partial state',
    "const is = refusal === undefined ? 'accepted' : 'rejected';",
    'const is = was;',
    2,
  ),
  judging(
    'the state before a merge is that after its first parent',
    'const states = new Set(parents.flatMap(',
    'const states = new Set(parents.slice(0, 1).flatMap(',
    1,
  ),
  judging(
    'before a circle there is the state where we joined',
    'refusal === undefined ? event.prevEvents : parentsOf(circleOf(event.eventId, prevEventsOf), prevEventsOf);',
    'refusal === undefined ? event.prevEvents : [];',
    877,
  ),
  judging(
    'a rejected auth event rejects nothing that cites it',
    'isRejected: (id) => this.#isRejected(id),',
    'isRejected: () => false,',
    3,
  ),
  judging(
    'the state after a refused event has that event',
    'this.#decide({ ...decided, after: before, refusal',
    'this.#decide({ ...decided, after: this.#states.after(before, pdu), refusal',
    1,
  ),
  judging(
    'what builds on an open gap is judged without the state there',
    'return prevEvents.some(isOpen) || [...prevEvents, ...authEvents].some((id) => this.#left.has(id));',
    'return prevEvents.every((id) => isOpen(id) && this.#left.has(id));',
    {
      file: 'test/rooms/resync/walk.pg.test.ts',
      title: 'events over a gap that stays open are judged by what is known',
    },
  ),
  timeline(
    'a change of the states before an event, whose verdict stays, is none',
    'return is !== stored?.verdict || stateBefore !== stored.stateBefore || stateAfter !== stored.stateAfter;',
    'return is !== stored?.verdict;',
    3,
  ),
  timeline(
    'what stands on a corrected event is taken for corrected',
    'const followed = unfollowed.has(eventId) ? {} : ({ followed: true } as const);',
    'const followed = { followed: true } as const;',
    {
      file: 'test/rooms/resync/correct-events.pg.test.ts',
      title: 'is corrected in batches that say how far they are, with fewer statements than events',
    },
  ),
  outliers(
    'an outlier whose auth events turned keeps its verdict',
    "const flipped = verdicts.filter(({ eventId, verdict }) => ![verdict, 'unjudged'].includes(before.get(eventId) ?? ''));",
    'const flipped = verdicts.filter(() => false);',
    17,
  ),
  anchors(
    'a state event that turns out rejected stays in the states at anchors',
    "const takenOut = changed.filter(({ key, nid, verdict }) => verdict !== 'accepted' && state.get(key) === nid);",
    'const takenOut = changed.filter(() => false);',
    {
      file: 'test/rooms/resync/correct-events.pg.test.ts',
      title: 'is taken out of the state, what stands on it is judged again, and comes back with its verdict',
    },
  ),
  events(
    'a correction leaves the current state of the whole room as it was',
    'const isOther = currentState !== room.currentState;',
    'const isOther = false;',
    51,
  ),
  causes(
    'a verdict in the timeline that is another than the one as an outlier changes nothing for others',
    'return outlier !== undefined && (outlier.isAwaited || (outlier.verdict !== null && outlier.verdict !== is));',
    'return outlier !== undefined && outlier.isAwaited;',
    62,
  ),
  causes(
    'the true state at a gap for which one was assumed changes nothing for others',
    'if (known.assumed.has(event.eventId)) add(event.eventId, i, { verdict: false, states: true, guessEnded: i });',
    '',
    3,
  ),
  extremities(
    'an event replaces its parents only, not what lies behind a refused one',
    'cited.push(...prevEvents);',
    '',
    1,
  ),
  extremities(
    'an event that comes after what cites it is an extremity',
    'if (flipped.length === 0 && cited.length === 0) return',
    'if (flipped.length === 0) return',
    6,
  ),
  verdicts(
    'extremities do not follow a verdict that turns',
    'return rows.filter(({ eventId, isMoved }) => flipped.has(eventId) || isMoved);',
    'return rows.filter(({ eventId, isMoved }) => (flipped.has(eventId) || isMoved) && false);',
    2,
  ),
  verdicts(
    'states that changed are journalled, and nowhere else',
    'if (rows.length === 0) return;\n  await tx.query(\n    `UPDATE event_states e\n        SET state_before',
    'if (rows.length >= 0) return;\n  await tx.query(\n    `UPDATE event_states e\n        SET state_before',
    3,
  ),
  verdicts(
    'an event that check 6 refuses at completion stays an extremity',
    'RETURNING e.event_id AS "eventId", false AS "isSolid"`',
    'RETURNING e.event_id AS "eventId", true AS "isSolid"`',
    67,
  ),
  places(
    'an anchor keeps the state that was assumed',
    'WHERE a.partial OR a.assumed AND NOT excluded.partial`',
    'WHERE a.partial`',
    3,
  ),
  members(
    'who leaves is still counted',
    "- count(*) FILTER (WHERE was = 'join') AS joined",
    "- count(*) FILTER (WHERE was = 'join' AND membership <> 'ban') AS joined",
    1,
  ),
  admission(
    'what builds on partial state is taken for judged for good',
    'return (this.#judged.get(id) ?? this.#given.parents.get(id))?.partial === true;',
    'return id === undefined;',
    2,
  ),
  admission(
    'the state before an event is that after its first parent',
    'return prevEvents.flatMap((id) => this.#stateAfter(id) ?? []);',
    'return prevEvents.slice(0, 1).flatMap((id) => this.#stateAfter(id) ?? []);',
    3,
  ),
  admission(
    'check 6 is not made in a whole room',
    'if (this.#room.partial || this.#ends.current === null) return undefined;',
    'if (this.#ends.current !== undefined) return undefined;',
    6,
  ),
  ends(
    'what came before it cites is an extremity in the current state',
    "if (outcome === 'accept' && !isReached) extremities.set(event.eventId, after);",
    "if (outcome === 'accept') extremities.set(event.eventId, after);",
    {
      file: 'test/rooms/judge/extremities.pg.test.ts',
      title: 'an event that comes after what builds on it is none of the newest',
    },
  ),
  admission(
    'check 6 beside a gap is made by the current state alone',
    'const state = event.prevEvents.some(isGap) ? await this.#ends.with(before) : this.#ends.current;',
    'const state = event.prevEvents.some(isGap) ? this.#ends.current : this.#ends.current;',
    30,
  ),
  replay(
    'check 6 is replayed for our own events too',
    'if (domainOf(event.sender) === sql.serverName) return undefined;',
    '',
    21,
  ),
  replay(
    'a soft-failed event counts as newest for those after it',
    'this.#extremities.take({ ...event, isSolid: isAccepted && refused === undefined });',
    'this.#extremities.take({ ...event, isSolid: isAccepted });',
    84,
  ),
  replay(
    'an event that comes later than what cites it leads nowhere in the replay',
    'this.#extremities.learn(await readGraphAhead(sql, this.#roomId, [...cited], this.#position));',
    'await readGraphAhead(sql, this.#roomId, [...cited], this.#position);',
    {
      file: 'test/rooms/resync/complete-walk.pg.test.ts',
      title: 'takes an event for reached that something reaches through one that came later',
    },
  ),
  ordered(
    'edges end at refused events in the replay',
    'else this.#through.set(eventId, prevEvents);',
    'else this.#through.delete(eventId);',
    11,
  ),
  replay(
    'what check 6 refuses at completion is not told',
    'if (refused !== undefined && !isSoftFailed) this.#findings.push(refused);',
    '',
    26,
  ),
  completion(
    'the current state at completion is the partial one',
    "const resolved = [{ type: 'CurrentStateResolved', currentState } as const];",
    "const resolved = [{ type: 'CurrentStateResolved', currentState: room.currentState ?? currentState } as const];",
    2,
  ),
  journal(
    'the journal says of soft-failed events that they are not',
    'textArray(events.map((event) => JSON.stringify(event))),',
    'textArray(events.map((event) => JSON.stringify(event).replace(\'"softFailed":true\', \'"softFailed":false\'))),',
    6,
  ),
];

/** The source with the fault in it. @throws where the place is not found once: then the mutant is to be mended */
export function applied({ name, file, was, is }: ResyncMutant, source: string): string {
  const [before, after, ...more] = source.split(was);
  if (before === undefined || after === undefined || more.length > 0) {
    throw new Error(`the place of "${name}" is not once in ${file}`);
  }
  return before + is + after;
}
