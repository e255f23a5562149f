ALTER TABLE "rooms" ADD COLUMN "members" integer;--> statement-breakpoint
ALTER TABLE "rooms" ADD COLUMN "name" text;--> statement-breakpoint
ALTER TABLE "rooms" ADD COLUMN "canonical_alias" text;--> statement-breakpoint
CREATE INDEX "rooms_by_canonical_alias" ON "rooms" USING btree ("canonical_alias") WHERE canonical_alias IS NOT NULL;