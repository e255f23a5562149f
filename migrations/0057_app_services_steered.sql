-- min_compatible: 48
ALTER TABLE "app_services" ADD COLUMN "last_failure" text;--> statement-breakpoint
ALTER TABLE "app_services" ADD COLUMN "txn_ephemeral" json;--> statement-breakpoint
CREATE INDEX "room_typing_by_position" ON "room_typing" USING btree ("position");