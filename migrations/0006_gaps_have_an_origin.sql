DROP INDEX "staged_pdus_by_origin";--> statement-breakpoint
ALTER TABLE "gaps" ADD COLUMN "origin" text NOT NULL;--> statement-breakpoint
ALTER TABLE "staged_pdus" ADD COLUMN "dropped_at" bigint;--> statement-breakpoint
CREATE INDEX "staged_pdus_by_origin" ON "staged_pdus" USING btree ("origin") WHERE dropped_at IS NULL;