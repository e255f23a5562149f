-- min_compatible: 19
-- outside a transaction
ALTER TABLE "event_states" ADD COLUMN IF NOT EXISTS "covered" boolean DEFAULT false NOT NULL;
--> statement-breakpoint
UPDATE "event_states" e SET "covered" = true
  FROM (
    WITH RECURSIVE "leading_on" AS (
      SELECT "room_id", "event_id" FROM "event_states" WHERE "verdict" = 'rejected' OR "soft_failed"
    ), "covered" AS (
      SELECT l."room_id", l."event_id" FROM "leading_on" l
       WHERE EXISTS (
         SELECT FROM "event_edges" c JOIN "event_states" s ON s."event_id" = c."event_id" AND s."room_id" = c."room_id"
          WHERE c."room_id" = l."room_id" AND c."prev_event_id" = l."event_id"
            AND s."verdict" = 'accepted' AND NOT s."soft_failed")
       UNION
      SELECT l."room_id", l."event_id"
        FROM "covered" c JOIN "pdus" p ON p."event_id" = c."event_id" AND p."room_id" = c."room_id"
       CROSS JOIN unnest(p."prev_events") AS prev("event_id")
        JOIN "leading_on" l ON l."room_id" = p."room_id" AND l."event_id" = prev."event_id"
    )
    SELECT * FROM "covered") AS c
 WHERE e."event_id" = c."event_id" AND e."room_id" = c."room_id" AND (e."verdict" = 'rejected' OR e."soft_failed");
