-- min_compatible: 30
ALTER TABLE "gaps" ADD COLUMN "begun_until" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "missing_events" ADD COLUMN "named_by" text[] DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE "missing_events" ADD COLUMN "gap_id" text;