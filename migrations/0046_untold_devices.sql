-- min_compatible: 46
CREATE TABLE "untold_in_partial_rooms" (
	"room_id" text NOT NULL,
	"user_id" text NOT NULL,
	"since" bigint NOT NULL,
	CONSTRAINT "untold_in_partial_rooms_room_id_user_id_pk" PRIMARY KEY("room_id","user_id")
);
