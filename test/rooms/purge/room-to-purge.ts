/** A room of which every table that may hold something of a room holds something. */
import { type UserId } from '../../../src/matrix/identifiers.ts';
import { type SendContext } from '../../../src/rooms/send/send-event.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { keyOf } from '../../matrix/sample-event.ts';
import { ADMIN, ME, PartialRoom, member, message } from '../resync/partial-room.ts';

const FROM_ADMIN = { auth: ['create', 'power', 'admin'] };
export const BOB = '@bob:there.test';

/** Joined partially, with a gap; somebody of us reads and writes in it. */
export async function roomToPurge(store: Store): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(member('bob', BOB, 'join', { auth: ['create', 'power', 'rules'] }));
  await room.push(message('said', ADMIN, { prev: ['join'], ...FROM_ADMIN }));
  const gap = {
    eventIds: [room.id('gap')],
    origin: 'there.test' as never,
    assumedState: await room.state('create'),
    at: 3,
  };
  await room.journal({ type: 'GapOpened', ...gap });
  await room.push(message('over', ADMIN, { prev: ['gap'], ...FROM_ADMIN }));
  const { roomId } = room;
  const [join, said] = [room.id('join'), room.id('said')];
  const rows: readonly [string, readonly unknown[]][] = [
    [`INSERT INTO former_members (room_id, user_id) VALUES ($1, '@former:here.test')`, []],
    [`INSERT INTO silent_leaves (room_id, user_id, left_at, settled_at) VALUES ($1, '@former:here.test', 1, 2)`, []],
    [`INSERT INTO outgoing_rooms (room_id, position, shared_out, leased_until) VALUES ($1, 5, 5, 0)`, []],
    [`INSERT INTO outgoing_events (position, room_id, event_id) VALUES (-${room.number}, $1, $2)`, [said]],
    [`INSERT INTO outgoing_passing (room_id, key, edu, expires_at) VALUES ($1, 'typing', '{}', 0)`, []],
    [`INSERT INTO destination_skips (server_name, room_id, after, up_to) VALUES ('there.test', $1, 1, 2)`, []],
    [`INSERT INTO destination_rooms (server_name, room_id, sent, owed) VALUES ('there.test', $1, 5, 5)`, []],
    [
      `INSERT INTO staged_pdus (room_id, event_id, origin, raw, received_at, not_before) VALUES ($1, $2, 'there.test', '', 0, 0)`,
      [room.id('staged')],
    ],
    [`INSERT INTO staged_rooms (room_id) VALUES ($1)`, []],
    [
      `INSERT INTO correction_causes (room_id, event_id, cause, verdict, states, anchors, since) VALUES ($1, $2, 1, true, true, true, 0)`,
      [said],
    ],
    [
      `INSERT INTO correction_targets (room_id, event_id, cause, through, states, rank, since) VALUES ($1, $2, 1, $2, true, 1, 0)`,
      [said],
    ],
    [
      `INSERT INTO missing_events (room_id, event_id, epoch, why, since, asked_of, is_given_up) VALUES ($1, $2, 1, 'malformed', 0, '{}', true)`,
      [room.id('lost')],
    ],
    [`INSERT INTO awaited_events (room_id, event_id, awaited_by) VALUES ($1, $2, $3)`, [room.id('lost'), said]],
    [`INSERT INTO left_out (room_id, event_id, anchor_id) VALUES ($1, $2, $3)`, [room.id('lost'), room.id('before')]],
    [
      `INSERT INTO fetch_progress (room_id, epoch, attempt_no, wanted, held, bytes, at) VALUES ($1, 1, 1, 2, 1, 9, 0)`,
      [],
    ],
    [`INSERT INTO fetch_attempts (room_id, epoch, attempt_no, begins) VALUES ($1, 1, 1, 1)`, []],
    [
      `WITH pass AS (INSERT INTO collections (room_id, started_at) VALUES ($1, 0) RETURNING pass)
       INSERT INTO reached_chunks (pass, hash) SELECT pass, '\\x00' FROM pass`,
      [],
    ],
    [
      `INSERT INTO client_transactions (user_id, device_id, room_id, txn_id, event_id, sent_at) VALUES ($2, 'd', $1, 't', $3, 0)`,
      [ME, join],
    ],
    [`INSERT INTO account_data (user_id, room_id, type, content, position) VALUES ($2, $1, 'm.tag', '{}', 1)`, [ME]],
    [
      `INSERT INTO read_receipts (user_id, room_id, type, event_id, up_to, position) VALUES ($2, $1, 'm.read', $3, 1, 1)`,
      [ME, join],
    ],
    [
      `INSERT INTO receipts (room_id, user_id, type, thread_id, event_id, at, position, is_untold)
       VALUES ($1, $2, 'm.read', '', $3, 1, 1, false)`,
      [ME, join],
    ],
    [`INSERT INTO room_typing (room_id, typists, position) VALUES ($1, '[]', 1)`, []],
    [
      `INSERT INTO cached_devices (user_id, room_id, epoch, member_nid, keys, as_of, fetched_at)
       VALUES ('@user:' || $1, $1, 1, 1, '{}', 1, 1)`,
      [],
    ],
    [`INSERT INTO untold_in_partial_rooms (room_id, user_id, since) VALUES ($1, $2, 1)`, [ME]],
    [
      `INSERT INTO outside_memberships (room_id, user_id, membership, position, event_id, room_version, sender, server, event, stripped)
       VALUES ($1, '@invited:here.test', 'invite', 1, '$i', '10', $2, 'there.test', '{}', '[]')`,
      [ME],
    ],
    [`INSERT INTO history_events (room_id, epoch, nth, event_id) VALUES ($1, 1, 1, '$h')`, []],
    [`INSERT INTO history_edges (room_id, epoch, event_id) VALUES ($1, 1, '$g')`, []],
    [`INSERT INTO forgotten_rooms (room_id, user_id, event_id) VALUES ($1, $2, $3)`, [ME, join]],
    [`INSERT INTO directory_members (room_id, user_id) VALUES ($1, $2)`, [ME]],
    [
      `INSERT INTO first_invites (room_id, user_id, sender, is_direct) VALUES ($1, '@first:there.test', $2, false)`,
      [ME],
    ],
    [`INSERT INTO room_upgrades (room_id, successor, user_id) VALUES ($1, '!next:here.test', $2)`, [ME]],
    [`INSERT INTO directory_rooms (room_id) VALUES ($1)`, []],
    [`INSERT INTO listed_rooms (room_id, listed_at) VALUES ($1, 0)`, []],
    [
      `INSERT INTO room_aliases (alias, room_id, creator, created_at) VALUES ('#a${room.number}:here.test', $1, $2, 0)`,
      [ME],
    ],
  ];
  for (const [text, values] of rows) await store.query(text, [roomId, ...values]);
  return room;
}

/** A join of somebody else of us that is recorded and not settled, as the last of the tables that have something. */
export async function recordMove(store: Store, { roomId }: PartialRoom, claimedUntil = 0): Promise<void> {
  await store.query(
    `INSERT INTO join_intents (event_id, room_id, user_id, event, room_version, resident, via, created_at, claimed_until)
     VALUES ('$intent of ' || $1, $1, '@other:here.test', '{}', '10', 'there.test', '{}', 0, $2)`,
    [roomId, claimedUntil],
  );
}

/** What purging is given. Nothing is sent here, and by its clock the time for that is over whenever somebody looks. */
export function purgingContext({ context }: PartialRoom, over: Partial<SendContext> = {}): SendContext {
  let looks = 0;
  const clock = { now: () => 1_000 + 61_000 * looks++ };
  return { ...context, clock, signingKey: keyOf('here.test'), ...over };
}

export const NOBODY_STOPS = new AbortController().signal;
export const me = ME as UserId;
