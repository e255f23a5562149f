-- min_compatible: 45
CREATE TABLE "cross_signing_keys" (
	"user_id" text NOT NULL,
	"usage" text NOT NULL,
	"keys" json NOT NULL,
	CONSTRAINT "cross_signing_keys_user_id_usage_pk" PRIMARY KEY("user_id","usage")
);
--> statement-breakpoint
CREATE TABLE "device_changes" (
	"user_id" text NOT NULL,
	"device_id" text NOT NULL,
	"position" bigint NOT NULL,
	"is_untold" boolean NOT NULL,
	CONSTRAINT "device_changes_user_id_device_id_pk" PRIMARY KEY("user_id","device_id")
);
--> statement-breakpoint
CREATE TABLE "key_signatures" (
	"signer_id" text NOT NULL,
	"signer_key" text NOT NULL,
	"target_user_id" text NOT NULL,
	"target_key" text NOT NULL,
	"signature" text NOT NULL,
	CONSTRAINT "key_signatures_pk" PRIMARY KEY("signer_id","target_user_id","target_key","signer_key")
);
--> statement-breakpoint
CREATE TABLE "outgoing_edus" (
	"server_name" text NOT NULL,
	"id" bigserial NOT NULL,
	"key" text,
	"edu" json NOT NULL,
	"expires_at" bigint,
	CONSTRAINT "outgoing_edus_server_name_id_pk" PRIMARY KEY("server_name","id"),
	CONSTRAINT "outgoing_edus_by_key" UNIQUE("server_name","key")
);
--> statement-breakpoint
CREATE TABLE "received_messages" (
	"origin" text NOT NULL,
	"message_id" text NOT NULL,
	"received_at" bigint NOT NULL,
	CONSTRAINT "received_messages_origin_message_id_pk" PRIMARY KEY("origin","message_id")
);
--> statement-breakpoint
CREATE TABLE "to_device_messages" (
	"user_id" text NOT NULL,
	"device_id" text NOT NULL,
	"position" bigint NOT NULL,
	"sender" text NOT NULL,
	"type" text NOT NULL,
	"content" json NOT NULL,
	CONSTRAINT "to_device_messages_user_id_device_id_position_pk" PRIMARY KEY("user_id","device_id","position")
);
--> statement-breakpoint
CREATE TABLE "told_device_lists" (
	"server_name" text NOT NULL,
	"user_id" text NOT NULL,
	"stream_id" bigint NOT NULL,
	CONSTRAINT "told_device_lists_user_id_server_name_pk" PRIMARY KEY("user_id","server_name")
);
--> statement-breakpoint
ALTER TABLE "deliveries" ADD COLUMN "txn_edus" bigint[];--> statement-breakpoint
CREATE INDEX "device_changes_by_position" ON "device_changes" USING btree ("position");--> statement-breakpoint
CREATE INDEX "device_changes_untold" ON "device_changes" USING btree ("position") WHERE is_untold;--> statement-breakpoint
CREATE INDEX "key_signatures_by_target" ON "key_signatures" USING btree ("target_user_id");--> statement-breakpoint
CREATE INDEX "received_messages_by_age" ON "received_messages" USING btree ("received_at");