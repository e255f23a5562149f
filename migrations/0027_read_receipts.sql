-- min_compatible: 27
CREATE TABLE "read_receipts" (
	"user_id" text NOT NULL,
	"room_id" text NOT NULL,
	"type" text NOT NULL,
	"event_id" text NOT NULL,
	"up_to" bigint NOT NULL,
	"position" bigint NOT NULL,
	CONSTRAINT "read_receipts_user_id_room_id_type_pk" PRIMARY KEY("user_id","room_id","type")
);
