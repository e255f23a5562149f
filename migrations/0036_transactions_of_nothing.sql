-- min_compatible: 32
ALTER TABLE "received_transactions" ADD COLUMN "is_of_nothing" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "received_transactions_of_nothing" ON "received_transactions" USING btree ("origin","received_at") WHERE is_of_nothing;