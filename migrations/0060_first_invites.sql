-- min_compatible: 32
CREATE TABLE "first_invites" (
	"room_id" text NOT NULL,
	"user_id" text NOT NULL,
	"sender" text NOT NULL,
	"is_direct" boolean NOT NULL,
	"leased_until" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "first_invites_room_id_user_id_pk" PRIMARY KEY("room_id","user_id")
);
