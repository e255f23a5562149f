/**
 * What a use case on accounts answers when it cannot do what was asked: a kind that edges translate into a status, and a
 * sentence for the person who asked. Nothing here knows HTTP.
 */

/**
 * - `unknown-token`: the token opens nothing; with `softLogout` the client may get another one without losing what it has;
 * - `forbidden`: name and password do not belong together, or this is not to be done by this user;
 * - `deactivated`: the account is closed for good;
 * - `too-many-devices`: the user has as many as he may have;
 * - `user-in-use`: somebody has that name, or had it;
 * - `invalid-username`: the name breaks the grammar, or is of another server;
 * - `weak-password`: the password is too short or too long;
 * - `not-found`: there is no such user or device;
 * - `reserved`: the server writes that, and nobody else;
 * - `invalid-signature`: what should have signed it has not;
 * - `missing`: what is needed was not given, and is not known here;
 * - `invalid`: something else that was given cannot be used;
 * - `key-too-large`, `profile-too-large`: a field's name, or all that a user says of himself, is too long;
 * - `too-many`: more than this server does at a time, or for one user.
 */
export type AccountErrorKind =
  | 'unknown-token'
  | 'forbidden'
  | 'deactivated'
  | 'too-many-devices'
  | 'user-in-use'
  | 'invalid-username'
  | 'weak-password'
  | 'not-found'
  | 'reserved'
  | 'invalid-signature'
  | 'missing'
  | 'invalid'
  | 'key-too-large'
  | 'profile-too-large'
  | 'too-many';

export class AccountError extends Error {
  override readonly name = 'AccountError';
  readonly kind: AccountErrorKind;
  /** Of an unknown token: whether the client may log in again as the same device. */
  readonly softLogout: boolean;

  constructor(kind: AccountErrorKind, message: string, { softLogout = false }: { readonly softLogout?: boolean } = {}) {
    super(message);
    this.kind = kind;
    this.softLogout = softLogout;
  }
}
