-- min_compatible: 32
-- outside a transaction
ALTER TABLE "directory_members" ADD COLUMN IF NOT EXISTS "display_name" text;--> statement-breakpoint
ALTER TABLE "directory_members" ADD COLUMN IF NOT EXISTS "avatar_url" text;--> statement-breakpoint
ALTER TABLE "directory_members" ADD COLUMN IF NOT EXISTS "words" "tsvector";--> statement-breakpoint
ALTER TABLE "directory_rooms" ADD COLUMN IF NOT EXISTS "named_state" "bytea";--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "directory_members_by_words";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "directory_members_by_words" ON "directory_members" USING gin ("words");
