/**
 * One send_join of a recorded join at one resident, with all that may become of it. The event is sent again after an unclear
 * outcome, there or elsewhere: the same event is the same join, wherever it is taken.
 */
import { FederationError, isRefusal } from '../../federation/error.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { type FailureClass } from '../../resync/events.ts';
import { noteTombstone } from '../../store/journal/tombstones.ts';
import { type JoinIntent } from '../../store/tables/intents.ts';
import { type RoomsContext } from '../context.ts';
import { ringRoom } from '../ring.ts';
import { type JoinRequest, type JoinedRoom } from '../contract.ts';
import { RoomError } from '../error.ts';
import { commitJoin } from './commit-join.ts';
import { takeJoinAnswer } from './join-answer.ts';
import { signedAnew, templateOf } from './prepare-join.ts';
import { type Timings } from './timings.ts';

export type SendOutcome =
  | { readonly outcome: 'joined'; readonly joined: JoinedRoom }
  /**
   * - `refused`: the resident does not take the event, and has not taken it;
   * - `not-now`: this time it has not taken it, which says nothing of an earlier time;
   * - `unclear`: it may have taken it;
   * - `unusable`: it has taken it, and what it answered, or what we hold, does not make us joined.
   */
  | { readonly outcome: 'refused' | 'not-now' | 'unclear' | 'unusable'; readonly error: FederationError | RoomError };

export interface SendOptions extends Pick<JoinRequest, 'omitMembers' | 'signal'> {
  readonly timings: Timings;
  /** Milliseconds after which the outcome is unclear; as long as a request may take when absent. */
  readonly limitMs?: number;
}

/** The request was not dealt with, whatever it held. */
const NOT_NOW: ReadonlySet<FailureClass> = new Set(['rate-limited', 'partial-state-there', 'refused-by-policy']);
const NOT_DEALT_WITH: ReadonlySet<number> = new Set([401, 413]);

/** What a failed request says of the event. */
function outcomeOf(error: FederationError): 'refused' | 'not-now' | 'unclear' | 'unusable' {
  const { kind, status, errcode, cause } = error;
  if (isRefusal(error)) return 'refused';
  if (NOT_NOW.has(kind) || (status !== undefined && NOT_DEALT_WITH.has(status))) return 'not-now';
  if (errcode === 'M_UNRECOGNIZED') return 'not-now';
  // What failed is our reading of a success, unless there was another status, or what came was no HTTP.
  const isOurReading = (kind === 'malformed' || kind === 'too-large') && status === undefined && cause === undefined;
  return isOurReading ? 'unusable' : 'unclear';
}

/** Sends a recorded join to a resident and commits it. @throws only what is neither the resident's fault nor an outcome */
export async function sendJoin(
  context: RoomsContext,
  intent: JoinIntent,
  resident: ServerName,
  options: SendOptions,
): Promise<SendOutcome> {
  const limit = options.limitMs === undefined ? undefined : AbortSignal.timeout(options.limitMs);
  const signal = limit === undefined ? options.signal : AbortSignal.any([options.signal, limit]);
  try {
    return { outcome: 'joined', joined: await sendAndCommit(context, intent, resident, { ...options, signal }) };
  } catch (error) {
    if (options.signal.aborted) throw error;
    if (error instanceof FederationError) return { outcome: outcomeOf(error), error };
    if (limit?.aborted === true) {
      return { outcome: 'unclear', error: new FederationError(resident, 'timeout', 'send_join took too long') };
    }
    if (!(error instanceof RoomError)) throw error;
    return { outcome: error.kind === 'busy' ? 'unclear' : 'unusable', error };
  }
}

async function sendAndCommit(
  context: RoomsContext,
  intent: JoinIntent,
  resident: ServerName,
  { omitMembers = true, signal, timings }: SendOptions,
): Promise<JoinedRoom> {
  const { roomId } = intent;
  await noteTombstone(context.store, roomId);
  const template = templateOf(intent);
  const event = signedAnew(context, intent, template);
  const sent = { ...intent, event, resident, template, omitMembers };
  // A room that has become whole meanwhile wants the whole state with the join: asked once more, it comes.
  for (let asked = 1; asked <= 2; asked += 1) {
    const answer = await timings.measure('send_join', () => takeJoinAnswer(context, sent, signal));
    const joined = await timings.measure('commit', () => commitJoin(context, { ...sent, answer }));
    if (joined === 'became-whole') continue;
    const { isToRing, ...outcome } = joined;
    if (isToRing) await ringRoom(context, roomId, 'for a join');
    return { roomId, joinedVia: resident, ...outcome, timingsMs: timings.byStep };
  }
  throw new RoomError('busy', `${roomId} has become whole twice while ${resident} answered`);
}
