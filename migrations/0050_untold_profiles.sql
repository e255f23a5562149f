-- min_compatible: 32
CREATE TABLE "untold_profiles" (
	"user_id" text PRIMARY KEY NOT NULL,
	"version" bigint DEFAULT 1 NOT NULL,
	"leased_until" bigint DEFAULT 0 NOT NULL
);
