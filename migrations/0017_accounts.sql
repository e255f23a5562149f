CREATE TABLE "devices" (
	"user_id" text NOT NULL,
	"device_id" text NOT NULL,
	"display_name" text,
	"created_at" bigint NOT NULL,
	"last_seen_at" bigint NOT NULL,
	"last_seen_address" text,
	CONSTRAINT "devices_user_id_device_id_pk" PRIMARY KEY("user_id","device_id")
);
--> statement-breakpoint
CREATE TABLE "sessions" (
	"access_hash" "bytea" PRIMARY KEY NOT NULL,
	"refresh_hash" "bytea",
	"user_id" text NOT NULL,
	"device_id" text NOT NULL,
	"created_at" bigint NOT NULL,
	"expires_at" bigint,
	"follows" "bytea",
	CONSTRAINT "sessions_by_refresh_token" UNIQUE("refresh_hash")
);
--> statement-breakpoint
CREATE TABLE "users" (
	"user_id" text PRIMARY KEY NOT NULL,
	"password_hash" text,
	"is_admin" boolean NOT NULL,
	"created_at" bigint NOT NULL,
	"deactivated_at" bigint,
	"display_name" text,
	"avatar_url" text
);
--> statement-breakpoint
CREATE INDEX "sessions_by_device" ON "sessions" USING btree ("user_id","device_id");--> statement-breakpoint
CREATE INDEX "sessions_by_follows" ON "sessions" USING btree ("follows");