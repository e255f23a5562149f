-- min_compatible: 32
CREATE TABLE "outside_memberships" (
	"room_id" text NOT NULL,
	"user_id" text NOT NULL,
	"membership" text NOT NULL,
	"position" bigint NOT NULL,
	"event_id" text NOT NULL,
	"room_version" text NOT NULL,
	"sender" text NOT NULL,
	"server" text NOT NULL,
	"event" json NOT NULL,
	"stripped" json NOT NULL,
	CONSTRAINT "outside_memberships_room_id_user_id_pk" PRIMARY KEY("room_id","user_id")
);
--> statement-breakpoint
CREATE INDEX "outside_memberships_by_user" ON "outside_memberships" USING btree ("user_id","position");