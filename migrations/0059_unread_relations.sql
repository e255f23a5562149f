-- min_compatible: 32
-- outside a transaction
CREATE TABLE IF NOT EXISTS "unread_relations" (
	"up_to" bigint PRIMARY KEY NOT NULL,
	"read_to" bigint DEFAULT 0 NOT NULL
);
--> statement-breakpoint
-- Rows that are there have no value: the default is for what programs store from here on that do not know the column.
ALTER TABLE "pdus" ADD COLUMN IF NOT EXISTS "relation_unread" boolean;--> statement-breakpoint
ALTER TABLE "pdus" ALTER COLUMN "relation_unread" SET DEFAULT true;--> statement-breakpoint
INSERT INTO "unread_relations" ("up_to") SELECT max("nid") FROM "pdus"
 WHERE NOT EXISTS (SELECT FROM "unread_relations") HAVING max("nid") IS NOT NULL ON CONFLICT DO NOTHING;--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "pdus_relation_unread";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "pdus_relation_unread" ON "pdus" USING btree ("nid") WHERE "pdus"."relation_unread" AND NOT "pdus"."hollow";
