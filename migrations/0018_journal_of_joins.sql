-- min_compatible: 16
-- outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS "journal_of_joins";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "journal_of_joins" ON "journal" USING btree ("room_id","epoch") WHERE type IN ('PartialStateJoined', 'FullStateJoined', 'ResidentsLearned', 'ParentsLearned', 'JoinRejected', 'JoinRestored');