-- min_compatible: 32
CREATE TABLE "app_services" (
	"service_id" text PRIMARY KEY NOT NULL,
	"sent" bigint NOT NULL,
	"leased_until" bigint NOT NULL,
	"failures" integer NOT NULL,
	"failed_since" bigint,
	"retry_at" bigint NOT NULL,
	"txn_id" text,
	"txn_positions" bigint[],
	"txn_up_to" bigint,
	"txn_made_at" bigint
);
--> statement-breakpoint
ALTER TABLE "outside_memberships" ADD COLUMN "ended_at" bigint;--> statement-breakpoint
CREATE INDEX "outside_memberships_open" ON "outside_memberships" USING btree ("position") WHERE membership <> 'leave';--> statement-breakpoint
CREATE INDEX "outside_memberships_ended" ON "outside_memberships" USING btree ("ended_at");--> statement-breakpoint
UPDATE "outside_memberships" SET "ended_at" = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint WHERE "membership" = 'leave';
