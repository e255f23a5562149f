/** What becomes of a room that the last of us leaves while it is partial, by what an operator has said of it. */
import { type RoomId } from '../matrix/identifiers.ts';
import { noControl } from '../resync/control.ts';
import { type LeavePolicy, type ResyncPolicy, policyFor } from '../resync/policy.ts';
import { readResync } from '../store/journal/rooms.ts';
import { type Sql } from '../store/open-store.ts';

/** What is in force in the room, by what is so in all of them. */
export async function leavePolicyOf(sql: Sql, roomId: RoomId, all: ResyncPolicy): Promise<LeavePolicy> {
  const { policy } = (await readResync(sql, roomId))?.state.control ?? noControl;
  return policyFor(all, policy).leave;
}
