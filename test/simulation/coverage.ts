/** What a run, or a series of runs, has met: counts by name. */
export class Coverage {
  readonly counts = new Map<string, number>();

  count(what: string, times = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + times);
  }

  /** Adds what another has met. */
  add(other: Coverage): void {
    for (const [what, times] of other.counts) this.count(what, times);
  }

  /** Those of the names that were never met. */
  lacking(names: readonly string[]): string[] {
    return names.filter((name) => !this.counts.has(name));
  }

  lines(): string[] {
    return [...this.counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([what, times]) => `${what}: ${times}`);
  }
}

const named = (what: string, ...names: readonly string[]): string[] => names.map((name) => `${what}${name}`);

/** So many runs meet everything that is asked for. */
export const RUNS_FOR_COVERAGE = 300;

/** What a series of `RUNS_FOR_COVERAGE` runs or more has to meet; one that lacks any of it has proved less than it says. */
export const REQUIRED: readonly string[] = [
  ...named('version ', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', '12'),
  ...named('act ', 'accept-third-party-invite', 'knock', 'ghost', 'expel', 'ban us', 'foreign', 'old key', 'wide'),
  ...named('verdict rejected by ', 'aliases-state-key', 'auth-event-duplicate', 'auth-event-rejected'),
  ...named('verdict rejected by ', 'auth-event-other-room', 'auth-event-unexpected', 'auth-events-lack-create'),
  ...named('verdict rejected by ', 'ban-power', 'invite-target-banned', 'invite-target-joined'),
  ...named('verdict rejected by ', 'invite-third-party-malformed', 'invite-third-party-sender'),
  ...named('verdict rejected by ', 'invite-third-party-token', 'join-banned', 'join-for-another'),
  ...named('verdict rejected by ', 'join-not-authorised', 'join-not-invited', 'join-rule-unknown', 'kick-power'),
  ...named('verdict rejected by ', 'knock-already-in', 'knock-join-rule', 'member-malformed', 'membership-unknown'),
  ...named('verdict rejected by ', 'power-levels-exceed', 'power-levels-lower-equal', 'power-levels-malformed'),
  ...named('verdict rejected by ', 'send-power', 'sender-not-joined', 'state-key-other-user'),
  ...named('verdict rejected by ', 'third-party-invite-power', 'unban-power'),
  ...named('accepted, then rejected by ', 'the walk', 'a correction'),
  ...named('rejected, then accepted by ', 'the walk', 'a correction'),
  ...named('message ', 'accepted, then rejected by the walk', 'rejected, then accepted by the walk'),
  ...named('state ', 'accepted, then rejected by the walk', 'rejected, then accepted by the walk'),
  ...named('membership ', 'accepted, then rejected by the walk', 'rejected, then accepted by the walk'),
  ...named('membership ', 'accepted, then rejected by a correction'),
  ...named('entry ', 'EventSoftFailed', 'FullStateJoined', 'GapClosed', 'GapFilled', 'GapOpened', 'GapsAssumed'),
  ...named('entry ', 'EverybodyLeft', 'JoinRejected', 'StayEnded'),
  ...named('entry ', 'ParentsLearned', 'PartialStateJoined', 'ResidentsLearned', 'StatesChanged', 'VerdictChanged'),
  ...named('gap in a ', 'partial room', 'whole room'),
  ...named('fetch failed: ', 'server-error'),
  ...named('down: ', 'unreachable', 'server-error', 'mute', 'few'),
  ...named('crash ', 'before a commit', 'after a commit'),
  ...named('order ', 'kept', 'reversed', 'shuffled'),
  ...['up again', 'sent again', 'sent late', 'never sent', 'beside the join', 'while we were out', 'history sent'],
  ...named('act ', 'by refused levels', 'by refused invite', 'by refused join', 'beside the leave'),
  ...named('act ', 'prev cycle', 'auth cycle'),
  ...['prev edges in a circle', 'verdict rejected by graph-cycle'],
  ...named(
    'client: a ',
    'correction is owed',
    'correction without state_after',
    'gappy sync',
    'leave',
    'long poll was answered',
  ),
  ...named('client: a ', 'partial room shown lazily', 'place listed as empty', 'state compared meanwhile'),
  ...named('client: an ', 'answer was lost', 'eager room shown once whole'),
  ...['client: state of a client in the end', 'said by us', 'carried', 'carried again'],
  ...['two stays', 'join cut off', 'join partial', 'join full', 'join refused', 'soft-failed'],
];
