-- min_compatible: 32
-- outside a transaction
ALTER TABLE "pdus" ADD COLUMN IF NOT EXISTS "relates_to" text;--> statement-breakpoint
ALTER TABLE "pdus" ADD COLUMN IF NOT EXISTS "rel_type" text;--> statement-breakpoint
-- Of events that are there: by their text, since JSON operators fail on those that hold NUL.
UPDATE "pdus" p SET "relates_to" = f."relates_to", "rel_type" = f."rel_type"
  FROM (SELECT "nid",
               substring("json"::text from '"m\.relates_to"\s*:\s*\{(?:[^{}]|\{[^{}]*\})*?"event_id"\s*:\s*"(\$[^"\\]{1,254})"') AS "relates_to",
               substring("json"::text from '"m\.relates_to"\s*:\s*\{(?:[^{}]|\{[^{}]*\})*?"rel_type"\s*:\s*"([^"\\]{1,255})"') AS "rel_type"
          FROM "pdus" WHERE "relates_to" IS NULL AND "json"::text LIKE '%"m.relates_to"%' AND NOT "hollow") AS f
 WHERE p."nid" = f."nid" AND f."relates_to" IS NOT NULL AND f."rel_type" IS NOT NULL
   AND octet_length(f."relates_to") <= 255 AND octet_length(f."rel_type") <= 255;--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "pdus_by_relation";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "pdus_by_relation" ON "pdus" USING btree ("room_id","relates_to","rel_type","nid") WHERE "pdus"."relates_to" IS NOT NULL;--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "pdus_in_threads";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "pdus_in_threads" ON "pdus" USING btree ("room_id","nid") WHERE "pdus"."rel_type" = 'm.thread';
