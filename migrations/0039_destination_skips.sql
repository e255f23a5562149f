-- min_compatible: 32
CREATE TABLE "destination_skips" (
	"server_name" text NOT NULL,
	"room_id" text NOT NULL,
	"after" bigint NOT NULL,
	"up_to" bigint NOT NULL,
	CONSTRAINT "destination_skips_server_name_room_id_after_pk" PRIMARY KEY("server_name","room_id","after")
);
