-- min_compatible: 32
CREATE TABLE "forgotten_rooms" (
	"user_id" text NOT NULL,
	"room_id" text NOT NULL,
	"event_id" text NOT NULL,
	CONSTRAINT "forgotten_rooms_user_id_room_id_pk" PRIMARY KEY("user_id","room_id")
);
--> statement-breakpoint
CREATE TABLE "profile_fields" (
	"user_id" text NOT NULL,
	"name" text NOT NULL,
	"value" json NOT NULL,
	CONSTRAINT "profile_fields_user_id_name_pk" PRIMARY KEY("user_id","name")
);
