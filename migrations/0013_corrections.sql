-- outside a transaction
CREATE TABLE IF NOT EXISTS "awaited_events" (
	"room_id" text NOT NULL,
	"event_id" text NOT NULL,
	CONSTRAINT "awaited_events_room_id_event_id_pk" PRIMARY KEY("room_id","event_id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "correction_causes" (
	"room_id" text NOT NULL,
	"event_id" text NOT NULL,
	"cause" bigint NOT NULL,
	"verdict" boolean NOT NULL,
	"states" boolean NOT NULL,
	"anchors" boolean NOT NULL,
	"since" bigint NOT NULL,
	CONSTRAINT "correction_causes_room_id_event_id_pk" PRIMARY KEY("room_id","event_id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "correction_targets" (
	"room_id" text NOT NULL,
	"event_id" text NOT NULL,
	"cause" bigint NOT NULL,
	"through" text NOT NULL,
	"states" boolean NOT NULL,
	"rank" bigint NOT NULL,
	"since" bigint NOT NULL,
	CONSTRAINT "correction_targets_room_id_event_id_pk" PRIMARY KEY("room_id","event_id")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "left_out" (
	"room_id" text NOT NULL,
	"event_id" text NOT NULL,
	"anchor_id" text NOT NULL,
	CONSTRAINT "left_out_room_id_event_id_anchor_id_pk" PRIMARY KEY("room_id","event_id","anchor_id")
);
--> statement-breakpoint
ALTER TABLE "anchors" ADD COLUMN IF NOT EXISTS "assumed" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "journal" ADD COLUMN IF NOT EXISTS "cause" bigint;--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "correction_causes_by_time" ON "correction_causes" USING btree ("since");--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "correction_targets_by_rank" ON "correction_targets" USING btree ("room_id","rank");--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "correction_targets_by_time" ON "correction_targets" USING btree ("since");--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "pdus_by_room";--> statement-breakpoint
CREATE INDEX CONCURRENTLY "pdus_by_room" ON "pdus" USING brin ("room_id");--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "journal_one_change_a_cause";--> statement-breakpoint
CREATE UNIQUE INDEX CONCURRENTLY "journal_one_change_a_cause" ON "journal" USING btree ("event_id","cause") WHERE type = 'VerdictChanged';--> statement-breakpoint
INSERT INTO left_out (room_id, event_id, anchor_id)
SELECT m.room_id, m.event_id, a.event_id
  FROM missing_events m JOIN anchors a ON a.room_id = m.room_id AND a.epoch = m.epoch AND NOT a.partial
 WHERE m.is_given_up
ON CONFLICT DO NOTHING;--> statement-breakpoint
INSERT INTO correction_causes (room_id, event_id, cause, verdict, states, anchors, since)
SELECT room_id, event_id, 0, true, false, true, found_at FROM missing_events WHERE is_given_up AND found_at IS NOT NULL
ON CONFLICT DO NOTHING;
