-- min_compatible: 23
CREATE TABLE "account_data" (
	"user_id" text NOT NULL,
	"room_id" text NOT NULL,
	"type" text NOT NULL,
	"content" json NOT NULL,
	"position" bigint NOT NULL,
	CONSTRAINT "account_data_user_id_room_id_type_pk" PRIMARY KEY("user_id","room_id","type")
);
--> statement-breakpoint
CREATE INDEX "account_data_by_position" ON "account_data" USING btree ("user_id","position");