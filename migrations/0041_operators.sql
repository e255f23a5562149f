-- min_compatible: 32
ALTER TABLE "resyncs" ADD COLUMN "waiters" integer;--> statement-breakpoint
CREATE INDEX "resyncs_cancelled" ON "resyncs" USING btree ("room_id") WHERE phase = 'cancelled';