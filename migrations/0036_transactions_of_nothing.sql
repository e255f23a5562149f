-- min_compatible: 32
-- outside a transaction
ALTER TABLE "received_transactions" ADD COLUMN IF NOT EXISTS "is_of_nothing" boolean DEFAULT false NOT NULL;--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "received_transactions_of_nothing";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "received_transactions_of_nothing" ON "received_transactions" USING btree ("origin","received_at") WHERE is_of_nothing;