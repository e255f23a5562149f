-- min_compatible: 15
-- outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS "journal_by_event";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "journal_by_event" ON "journal" USING btree ("event_id") WHERE event_id IS NOT NULL AND type NOT IN ('PduAccepted', 'PduRejected', 'EventUnPartialStated');
