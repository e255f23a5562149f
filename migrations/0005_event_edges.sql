CREATE TABLE "event_edges" (
	"room_id" text NOT NULL,
	"prev_event_id" text NOT NULL,
	"event_id" text NOT NULL,
	CONSTRAINT "event_edges_room_id_prev_event_id_event_id_pk" PRIMARY KEY("room_id","prev_event_id","event_id")
);
--> statement-breakpoint
INSERT INTO "event_edges" ("room_id", "prev_event_id", "event_id")
SELECT e."room_id", prev.event_id, e."event_id"
  FROM "event_states" e JOIN "pdus" p ON p."nid" = e."event_nid" CROSS JOIN unnest(p."prev_events") AS prev(event_id)
ON CONFLICT DO NOTHING;
