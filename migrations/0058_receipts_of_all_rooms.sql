-- min_compatible: 48
-- outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS "receipts_of_all_rooms";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "receipts_of_all_rooms" ON "receipts" USING btree ("position");
