/** What a sync answers when it cannot be given: a kind that the edge translates, and a sentence for who asked. */

/** - `invalid`: a token or a filter that cannot be used. */
export type SyncErrorKind = 'invalid';

export class SyncError extends Error {
  override readonly name = 'SyncError';
  readonly kind: SyncErrorKind;

  constructor(kind: SyncErrorKind, message: string) {
    super(message);
    this.kind = kind;
  }
}
