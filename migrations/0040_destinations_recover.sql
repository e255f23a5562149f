-- min_compatible: 32
ALTER TABLE "destinations" ADD COLUMN "probed_until" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "destinations" ADD COLUMN "recovered_at" bigint;--> statement-breakpoint
CREATE INDEX "resyncs_parked" ON "resyncs" USING btree ("room_id") WHERE phase = 'parked';--> statement-breakpoint
CREATE INDEX "destinations_recovered" ON "destinations" USING btree ("recovered_at") WHERE recovered_at IS NOT NULL;