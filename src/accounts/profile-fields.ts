/**
 * Fields of profiles besides names and avatars.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#put_matrixclientv3profileuseridkeyname
 */
import { type UserId } from '../matrix/identifiers.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type Json } from '../matrix/pdu.ts';
import { deleteProfileFields, readProfileFields, upsertProfileField } from '../store/tables/profile-fields.ts';
import { lockUser } from '../store/tables/users.ts';
import { type AccountsContext } from './context.ts';
import { AccountError } from './error.ts';

const KEY_BYTES_MAX = 255;
/** The grammar of names in namespaces: https://spec.matrix.org/v1.16/appendices/#common-namespaced-identifier-grammar */
const KEY = /^[a-z][a-z0-9_.-]*$/;
/** Of a profile in all. */
const PROFILE_BYTES_MAX = 65_536;
const TIME_ZONE = 'm.tz';

/** `undefined`: the user says it no more. */
export async function setProfileField(
  { store }: AccountsContext,
  userId: UserId,
  name: string,
  value: Json | undefined,
): Promise<void> {
  if (Buffer.byteLength(name) > KEY_BYTES_MAX) {
    throw new AccountError('key-too-large', `a field's name has at most ${KEY_BYTES_MAX} bytes`);
  }
  if (!KEY.test(name)) throw new AccountError('invalid', 'a field is named as identifiers in namespaces are');
  if (name === TIME_ZONE && value !== undefined && typeof value !== 'string') {
    throw new AccountError('invalid', `${TIME_ZONE} is the name of a time zone`);
  }
  await store.inTransaction(async (tx) => {
    const user = await lockUser(tx, userId, 'all');
    if (user === undefined) throw new AccountError('not-found', `there is no account ${userId}`);
    if (value === undefined) {
      await deleteProfileFields(tx, userId, name);
      return;
    }
    const fields = { ...(await readProfileFields(tx, userId)), [name]: value };
    const whole = { ...fields, displayname: user.displayName, avatar_url: user.avatarUrl };
    if (Buffer.byteLength(canonicalJson(whole)) > PROFILE_BYTES_MAX) {
      throw new AccountError('profile-too-large', `a profile has at most ${PROFILE_BYTES_MAX} bytes`);
    }
    await upsertProfileField(tx, userId, name, canonicalJson(value));
  });
}
