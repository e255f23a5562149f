/** Why an answer of a resident at a join or a leave is not used: the name of the rule it breaks, and a sentence. */
import { type Refusal } from '../matrix/refusal.ts';

export type JoinRefusalRule =
  | 'template-room-version'
  | 'template-subject'
  | 'template-prev-events'
  | 'template-auth-events'
  | 'template-depth'
  | 'template-content'
  | 'template-authoriser'
  | 'members-omitted-type'
  | 'members-omitted-unasked'
  | 'servers-in-room'
  | 'create-missing'
  | 'create-twice'
  | 'create-room-version'
  | 'create-room-id'
  | 'create-cited'
  | 'foreign-room'
  | 'returned-event-missing'
  | 'returned-event-id'
  | 'returned-event-signature';

/** The reason may quote the stranger, so clean it with `oneLine` before printing. */
export type JoinRefusal = Refusal<JoinRefusalRule>;
