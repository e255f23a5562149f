-- min_compatible: 32
CREATE TABLE "silent_leaves" (
	"room_id" text NOT NULL,
	"user_id" text NOT NULL,
	"left_at" bigint NOT NULL,
	"settled_at" bigint,
	CONSTRAINT "silent_leaves_room_id_user_id_pk" PRIMARY KEY("room_id","user_id")
);
--> statement-breakpoint
CREATE TABLE "room_purges" (
	"room_id" text PRIMARY KEY NOT NULL,
	"purge_id" text NOT NULL,
	"requested_at" bigint NOT NULL,
	"put_out" text[] DEFAULT '{}' NOT NULL,
	"fenced_at" bigint,
	"epoch" integer DEFAULT 0 NOT NULL,
	"resync_seq" bigint DEFAULT 0 NOT NULL,
	"users" text[] DEFAULT '{}' NOT NULL,
	"rows" bigint DEFAULT 0 NOT NULL,
	"entries" bigint DEFAULT 0 NOT NULL,
	"claimed_until" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "room_purges_by_id" UNIQUE("purge_id")
);
--> statement-breakpoint
ALTER TABLE "resyncs" ADD COLUMN "purge_at" bigint;--> statement-breakpoint
ALTER TABLE "rooms" ADD COLUMN "purged_to" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE INDEX "resyncs_to_purge" ON "resyncs" USING btree ("purge_at") WHERE purge_at IS NOT NULL;