/** What other servers are to be told of a user's devices. */
import { type UserId } from '../../src/matrix/identifiers.ts';
import { type Store } from '../../src/store/open-store.ts';
import { type UntoldChange } from '../../src/store/tables/device-changes.ts';

export function readUntold(store: Store, userId: UserId): Promise<UntoldChange[]> {
  return store.query<UntoldChange>(
    `SELECT user_id AS "userId", device_id AS "deviceId", position FROM device_changes
      WHERE user_id = $1 AND is_untold ORDER BY position`,
    [userId],
  );
}
