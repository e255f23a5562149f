-- min_compatible: 26
CREATE TABLE "deliveries" (
	"server_name" text PRIMARY KEY NOT NULL,
	"leased_until" bigint NOT NULL,
	"failures" integer NOT NULL,
	"failed_since" bigint,
	"retry_at" bigint NOT NULL,
	"txn_id" text,
	"txn_positions" bigint[]
);
--> statement-breakpoint
CREATE TABLE "destination_rooms" (
	"server_name" text NOT NULL,
	"room_id" text NOT NULL,
	"sent" bigint NOT NULL,
	"owed" bigint NOT NULL,
	CONSTRAINT "destination_rooms_server_name_room_id_pk" PRIMARY KEY("server_name","room_id")
);
--> statement-breakpoint
CREATE TABLE "outgoing_events" (
	"position" bigint PRIMARY KEY NOT NULL,
	"room_id" text NOT NULL,
	"event_id" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "outgoing_rooms" (
	"room_id" text PRIMARY KEY NOT NULL,
	"position" bigint NOT NULL,
	"shared_out" bigint NOT NULL,
	"leased_until" bigint NOT NULL
);
--> statement-breakpoint
CREATE INDEX "destination_rooms_due" ON "destination_rooms" USING btree ("server_name") WHERE sent < owed;--> statement-breakpoint
CREATE INDEX "destination_rooms_by_room" ON "destination_rooms" USING btree ("room_id");--> statement-breakpoint
CREATE INDEX "outgoing_events_by_room" ON "outgoing_events" USING btree ("room_id","position");--> statement-breakpoint
CREATE INDEX "outgoing_rooms_due" ON "outgoing_rooms" USING btree ("room_id") WHERE shared_out < position;