-- min_compatible: 21
CREATE TABLE "device_keys" (
	"user_id" text NOT NULL,
	"device_id" text NOT NULL,
	"keys" json NOT NULL,
	CONSTRAINT "device_keys_user_id_device_id_pk" PRIMARY KEY("user_id","device_id")
);
--> statement-breakpoint
CREATE TABLE "fallback_keys" (
	"user_id" text NOT NULL,
	"device_id" text NOT NULL,
	"algorithm" text NOT NULL,
	"key_id" text NOT NULL,
	"key" json NOT NULL,
	"used" boolean DEFAULT false NOT NULL,
	CONSTRAINT "fallback_keys_user_id_device_id_algorithm_pk" PRIMARY KEY("user_id","device_id","algorithm")
);
--> statement-breakpoint
CREATE TABLE "filters" (
	"user_id" text NOT NULL,
	"filter_id" text NOT NULL,
	"filter" json NOT NULL,
	"created_at" bigint NOT NULL,
	CONSTRAINT "filters_user_id_filter_id_pk" PRIMARY KEY("user_id","filter_id")
);
--> statement-breakpoint
CREATE TABLE "login_tokens" (
	"token_hash" "bytea" PRIMARY KEY NOT NULL,
	"user_id" text NOT NULL,
	"expires_at" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "one_time_keys" (
	"user_id" text NOT NULL,
	"device_id" text NOT NULL,
	"algorithm" text NOT NULL,
	"key_id" text NOT NULL,
	"key" json NOT NULL,
	"uploaded_at" bigint NOT NULL,
	CONSTRAINT "one_time_keys_user_id_device_id_algorithm_key_id_pk" PRIMARY KEY("user_id","device_id","algorithm","key_id")
);
--> statement-breakpoint
CREATE INDEX "login_tokens_by_user" ON "login_tokens" USING btree ("user_id");