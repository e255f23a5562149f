-- Programs from before write no row that clients are shown by: they have no clients, and end before this runs.
-- outside a transaction
CREATE TABLE IF NOT EXISTS "current_states" (
	"room_id" text NOT NULL,
	"position" bigint NOT NULL,
	"state" "bytea" NOT NULL,
	"partial" boolean NOT NULL,
	CONSTRAINT "current_states_room_id_position_pk" PRIMARY KEY("room_id","position")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "former_members" (
	"room_id" text NOT NULL,
	"user_id" text NOT NULL,
	CONSTRAINT "former_members_user_id_room_id_pk" PRIMARY KEY("user_id","room_id")
);
--> statement-breakpoint
ALTER TABLE "event_states" ADD COLUMN IF NOT EXISTS "shown_at" bigint;--> statement-breakpoint
ALTER TABLE "rooms" ADD COLUMN IF NOT EXISTS "invited" integer;--> statement-breakpoint
UPDATE "event_states" SET "shown_at" = "position" WHERE "verdict" = 'accepted' AND NOT "soft_failed";--> statement-breakpoint
UPDATE "event_states" e SET "shown_at" = f."position"
  FROM (
    -- No quote within a string of JSON stands without a backslash before it, so these are members of the entry.
    SELECT "room_id", "event_id", max("position") AS "position" FROM "journal"
     WHERE "type" IN ('EventUnPartialStated', 'VerdictChanged')
       AND "data"::text LIKE '%"was":"rejected"%' AND "data"::text LIKE '%"is":"accepted"%'
     GROUP BY "room_id", "event_id") AS f
 WHERE e."event_id" = f."event_id" AND e."room_id" = f."room_id" AND e."shown_at" < f."position";--> statement-breakpoint
INSERT INTO "current_states" ("room_id", "position", "state", "partial")
WITH said AS (
  SELECT "room_id", "position",
         CASE WHEN "type" IN ('PduAccepted', 'CurrentStateResolved')
              THEN substring("data"::text FROM '"currentState":"([0-9a-f]{32})"') END AS "state",
         CASE WHEN "type" = 'PartialStateJoined' THEN true
              WHEN "type" IN ('FullStateJoined', 'ResyncCompleted', 'StayEnded') THEN false END AS "partial"
    FROM "journal"
   WHERE "type" IN ('PduAccepted', 'CurrentStateResolved', 'PartialStateJoined', 'FullStateJoined', 'ResyncCompleted', 'StayEnded')
), numbered AS (
  SELECT *, count("state") OVER earlier AS "states", count("partial") OVER earlier AS "partials"
    FROM said WINDOW earlier AS (PARTITION BY "room_id" ORDER BY "position")
), known AS (
  SELECT "room_id", "position", max("state") OVER (PARTITION BY "room_id", "states") AS "state",
         coalesce(bool_or("partial") OVER (PARTITION BY "room_id", "partials"), false) AS "partial"
    FROM numbered
), changed AS (
  SELECT *, lag("state") OVER earlier AS "state_before", lag("partial", 1, false) OVER earlier AS "partial_before"
    FROM known WINDOW earlier AS (PARTITION BY "room_id" ORDER BY "position")
)
SELECT c."room_id", c."position", decode(c."state", 'hex'), c."partial" FROM changed c
  JOIN "snapshot_chunks" s ON s."room_id" = c."room_id" AND s."hash" = decode(c."state", 'hex') AND s."condemned_at" IS NULL
 WHERE c."state" IS DISTINCT FROM c."state_before" OR c."partial" <> c."partial_before"
ON CONFLICT DO NOTHING;--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "event_states_by_shown_at";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "event_states_by_shown_at" ON "event_states" USING btree ("room_id","shown_at") WHERE shown_at IS NOT NULL;