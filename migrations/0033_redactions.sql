-- min_compatible: 33
-- outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS "pdus_by_redacts";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "pdus_by_redacts" ON "pdus" USING btree ("room_id",substring("json"::text from '"redacts"\s*:\s*"([^"\\]+)"')) WHERE "pdus"."type" = 'm.room.redaction';