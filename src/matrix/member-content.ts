/** What memberships say of their users' profiles. Source: https://spec.matrix.org/v1.16/client-server-api/#mroommember */
import { type JsonObject } from './pdu.ts';

/** As a membership says it: what there is none of is not said. */
export function memberContent({
  displayName,
  avatarUrl,
}: {
  readonly displayName: string | null;
  readonly avatarUrl: string | null;
}): JsonObject {
  return {
    ...(displayName === null ? {} : { displayname: displayName }),
    ...(avatarUrl === null ? {} : { avatar_url: avatarUrl }),
  };
}
