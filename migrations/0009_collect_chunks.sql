ALTER TABLE "snapshot_chunks" ADD COLUMN "condemned_at" bigint;--> statement-breakpoint
ALTER TABLE "rooms" ADD COLUMN "collected_at" bigint;