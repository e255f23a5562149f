-- Programs from before do not know the entry that says that everybody has left: they end before this runs.
ALTER TABLE "former_members" ADD COLUMN "left_by" text;--> statement-breakpoint
INSERT INTO "former_members" ("room_id", "user_id", "left_by")
SELECT "room_id", "user_id", "event_id" FROM "local_members" WHERE "membership" IN ('leave', 'ban')
ON CONFLICT ("user_id", "room_id") DO UPDATE SET "left_by" = excluded."left_by";
