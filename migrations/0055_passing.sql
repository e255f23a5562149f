-- min_compatible: 48
CREATE UNLOGGED TABLE "presence" (
	"user_id" text PRIMARY KEY NOT NULL,
	"server_name" text NOT NULL,
	"presence" text NOT NULL,
	"status_msg" text,
	"last_active_at" bigint,
	"currently_active" boolean,
	"said_at" bigint NOT NULL,
	"position" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "receipts" (
	"room_id" text NOT NULL,
	"user_id" text NOT NULL,
	"type" text NOT NULL,
	"thread_id" text NOT NULL,
	"event_id" text NOT NULL,
	"at" bigint NOT NULL,
	"position" bigint NOT NULL,
	"is_untold" boolean NOT NULL,
	CONSTRAINT "receipts_room_id_user_id_type_thread_id_pk" PRIMARY KEY("room_id","user_id","type","thread_id")
);
--> statement-breakpoint
CREATE UNLOGGED TABLE "room_typing" (
	"room_id" text PRIMARY KEY NOT NULL,
	"typists" json NOT NULL,
	"expires_at" bigint,
	"position" bigint NOT NULL
);
--> statement-breakpoint
CREATE INDEX "presence_by_position" ON "presence" USING btree ("position");--> statement-breakpoint
CREATE INDEX "presence_by_server" ON "presence" USING btree ("server_name");--> statement-breakpoint
CREATE INDEX "presence_by_age" ON "presence" USING btree ("said_at");--> statement-breakpoint
CREATE INDEX "receipts_by_position" ON "receipts" USING btree ("room_id","position");--> statement-breakpoint
CREATE INDEX "receipts_untold" ON "receipts" USING btree ("position") WHERE is_untold;--> statement-breakpoint
CREATE INDEX "room_typing_expiring" ON "room_typing" USING btree ("expires_at") WHERE expires_at IS NOT NULL;