-- min_compatible: 32
CREATE TABLE "directory_members" (
	"user_id" text NOT NULL,
	"room_id" text NOT NULL,
	CONSTRAINT "directory_members_user_id_room_id_pk" PRIMARY KEY("user_id","room_id")
);
--> statement-breakpoint
CREATE TABLE "directory_rooms" (
	"room_id" text PRIMARY KEY NOT NULL,
	"state" "bytea",
	"is_public" boolean DEFAULT false NOT NULL
);
--> statement-breakpoint
CREATE TABLE "directory_users" (
	"user_id" text PRIMARY KEY NOT NULL,
	"display_name" text,
	"avatar_url" text,
	"words" "tsvector" NOT NULL
);
--> statement-breakpoint
CREATE INDEX "directory_members_by_room" ON "directory_members" USING btree ("room_id");--> statement-breakpoint
CREATE INDEX "directory_users_by_words" ON "directory_users" USING gin ("words");