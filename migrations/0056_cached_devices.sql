-- min_compatible: 48
CREATE TABLE "cached_devices" (
	"user_id" text PRIMARY KEY NOT NULL,
	"room_id" text NOT NULL,
	"epoch" integer NOT NULL,
	"member_nid" bigint NOT NULL,
	"stream_id" bigint,
	"keys" json NOT NULL,
	"as_of" bigint NOT NULL,
	"fetched_at" bigint NOT NULL
);
--> statement-breakpoint
CREATE INDEX "cached_devices_by_room" ON "cached_devices" USING btree ("room_id");--> statement-breakpoint
CREATE INDEX "cached_devices_by_age" ON "cached_devices" USING btree ("fetched_at");