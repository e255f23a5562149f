-- min_compatible: 32
CREATE TABLE "room_upgrades" (
	"room_id" text PRIMARY KEY NOT NULL,
	"successor" text NOT NULL,
	"user_id" text NOT NULL,
	"leased_until" bigint DEFAULT 0 NOT NULL
);
