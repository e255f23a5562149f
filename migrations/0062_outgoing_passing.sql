-- min_compatible: 48
CREATE TABLE "outgoing_passing" (
	"id" bigserial NOT NULL,
	"room_id" text NOT NULL,
	"key" text NOT NULL,
	"edu" json NOT NULL,
	"expires_at" bigint NOT NULL,
	CONSTRAINT "outgoing_passing_room_id_key_pk" PRIMARY KEY("room_id","key")
);
--> statement-breakpoint
ALTER TABLE "deliveries" ADD COLUMN "txn_passing" bigint;--> statement-breakpoint
ALTER TABLE "destination_rooms" ADD COLUMN "passing_sent" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "destination_rooms" ADD COLUMN "passing_owed" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "outgoing_passing_by_id" ON "outgoing_passing" USING btree ("id");--> statement-breakpoint
CREATE INDEX "outgoing_passing_by_age" ON "outgoing_passing" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "destination_rooms_due_passing" ON "destination_rooms" USING btree ("server_name") WHERE passing_sent < passing_owed;