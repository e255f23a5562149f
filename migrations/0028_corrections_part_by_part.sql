-- min_compatible: 27
-- outside a transaction
ALTER TABLE "correction_causes" ADD COLUMN IF NOT EXISTS "looked_to" bigint;--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "pdus_in_room";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "pdus_in_room" ON "pdus" USING btree (hashtext("room_id"),"nid");--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "pdus_by_room";
