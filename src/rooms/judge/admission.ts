/** What may become of an event that is given to be admitted (admit.ts). */
import { type EventId } from '../../matrix/identifiers.ts';

/** What became of an event that was given to be admitted. */
export type Admission =
  | { readonly outcome: 'admitted'; readonly verdict: 'accepted' | 'softFailed' | 'rejected' }
  /** It is in the timeline already, or an anchor at which a stay of ours begins. */
  | { readonly outcome: 'known' }
  /**
   * Prev_events that are neither events of the timeline nor anchors, and were not admitted before it. When these are there, it
   * will lack the auth events named, too: whoever fetches may fetch for all that waits at once.
   */
  | {
      readonly outcome: 'waits';
      readonly missingParents: readonly EventId[];
      readonly missingAuthEvents: readonly EventId[];
    }
  /** Check 4 cannot be made: auth events that are not held, or not judged. */
  | { readonly outcome: 'unjudged'; readonly missingAuthEvents: readonly EventId[]; readonly reason: string }
  /** It follows nothing, as only the event does that the room began with: it has no place after our join, and never will. */
  | { readonly outcome: 'placeless'; readonly reason: string }
  /** The event held under that id is one of another room: ids are chosen by senders in versions 1 and 2. */
  | { readonly outcome: 'foreign' }
  /** It had no turn: the time for its batch was over. Nothing is concluded from it. */
  | { readonly outcome: 'left' }
  /** Nobody of us is in the room any more. */
  | { readonly outcome: 'not-there' }
  /** A state that it needs is still being worked out (resolve-in-time.ts). */
  | { readonly outcome: 'unresolved'; readonly reason: string }
  /** A state that it needs is too much to work out; our own limit, so nothing is concluded from it. */
  | { readonly outcome: 'too-large'; readonly reason: string };
