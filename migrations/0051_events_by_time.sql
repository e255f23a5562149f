-- min_compatible: 32
-- outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS "pdus_by_time";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "pdus_by_time" ON "pdus" USING btree (hashtext("room_id"),"origin_server_ts","nid");
