-- min_compatible: 32
-- outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS "journal_of_purges";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "journal_of_purges" ON "journal" USING btree ("position") WHERE type = 'RoomPurged';
