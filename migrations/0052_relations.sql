-- min_compatible: 32
-- outside a transaction
ALTER TABLE "pdus" ADD COLUMN IF NOT EXISTS "relates_to" text;--> statement-breakpoint
ALTER TABLE "pdus" ADD COLUMN IF NOT EXISTS "rel_type" text;--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "pdus_by_relation";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "pdus_by_relation" ON "pdus" USING btree ("room_id","relates_to","rel_type","nid") WHERE "pdus"."relates_to" IS NOT NULL;--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "pdus_in_threads";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "pdus_in_threads" ON "pdus" USING btree ("room_id","nid") WHERE "pdus"."rel_type" = 'm.thread';
