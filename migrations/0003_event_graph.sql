CREATE TABLE "outlier_verdicts" (
	"event_nid" bigint PRIMARY KEY NOT NULL,
	"verdict" text NOT NULL,
	"auth_depth" integer,
	"rule" text,
	"reason" text
);
--> statement-breakpoint
CREATE TABLE "anchors" (
	"room_id" text NOT NULL,
	"event_id" text NOT NULL,
	"epoch" integer NOT NULL,
	"state_after" "bytea" NOT NULL,
	"partial" boolean NOT NULL,
	CONSTRAINT "anchors_room_id_event_id_pk" PRIMARY KEY("room_id","event_id")
);
--> statement-breakpoint
CREATE INDEX "anchors_partial" ON "anchors" USING btree ("room_id") WHERE partial;--> statement-breakpoint
-- By hand: until now an outlier that was not refused counted as accepted. What is in the timeline has its verdict there.
INSERT INTO "outlier_verdicts" ("event_nid", "verdict", "rule", "reason")
SELECT p."nid", CASE WHEN p."rejected_rule" IS NULL THEN 'accepted' ELSE 'rejected' END, p."rejected_rule", p."rejected_reason"
  FROM "pdus" p WHERE NOT EXISTS (SELECT FROM "event_states" e WHERE e."event_nid" = p."nid");--> statement-breakpoint
-- By hand: what a resync still asks for builds on what the resident of the join returned; what it has fetched is whole.
INSERT INTO "anchors" ("room_id", "event_id", "epoch", "state_after", "partial")
SELECT s."room_id", f.value ->> 'atEventId', s."epoch", decode(f.value ->> 'snapshotId', 'hex'), false
  FROM "resyncs" s CROSS JOIN json_array_elements(s."state" -> 'fetched') AS f(value)
 ORDER BY s."epoch" DESC
ON CONFLICT DO NOTHING;--> statement-breakpoint
INSERT INTO "anchors" ("room_id", "event_id", "epoch", "state_after", "partial")
SELECT s."room_id", f.event_id, s."epoch", e."state_before", true
  FROM "resyncs" s JOIN "rooms" r ON r."room_id" = s."room_id" AND r."epoch" = s."epoch"
  JOIN "event_states" e ON e."room_id" = s."room_id" AND e."event_id" = s."state" ->> 'joinEventId'
 CROSS JOIN json_array_elements_text(s."state" -> 'fetchAt') AS f(event_id)
ON CONFLICT DO NOTHING;--> statement-breakpoint
ALTER TABLE "event_states" ADD COLUMN "auth_depth" integer;--> statement-breakpoint
ALTER TABLE "pdus" DROP COLUMN "rejected_rule";--> statement-breakpoint
ALTER TABLE "pdus" DROP COLUMN "rejected_reason";