-- min_compatible: 32
ALTER TABLE "awaited_events" ADD COLUMN "awaited_by" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "awaited_events" ADD COLUMN "since" bigint DEFAULT floor(extract(epoch FROM now()) * 1000)::bigint NOT NULL;--> statement-breakpoint
ALTER TABLE "awaited_events" DROP CONSTRAINT "awaited_events_room_id_event_id_pk";--> statement-breakpoint
ALTER TABLE "awaited_events" ADD CONSTRAINT "awaited_events_room_id_event_id_awaited_by_pk" PRIMARY KEY("room_id","event_id","awaited_by");--> statement-breakpoint
CREATE INDEX "awaited_events_by_age" ON "awaited_events" USING btree ("since");--> statement-breakpoint
-- What events that states lack wait for, held without a verdict: it was looked up each time, and is a row now.
INSERT INTO awaited_events (room_id, event_id, awaited_by)
WITH RECURSIVE waiting (room_id, event_id, anchor_id) AS (
  SELECT room_id, event_id, min(anchor_id) FROM left_out GROUP BY room_id, event_id
   UNION
  SELECT w.room_id, unnest(p.auth_events), w.anchor_id
    FROM waiting w
   CROSS JOIN LATERAL (SELECT nid, auth_events FROM pdus WHERE event_id = w.event_id AND room_id = w.room_id OFFSET 0) AS p
   WHERE (SELECT count(*) FROM event_states e WHERE e.event_nid = p.nid) = 0
     AND (SELECT count(*) FROM outlier_verdicts o WHERE o.event_nid = p.nid) = 0
)
SELECT DISTINCT ON (w.room_id, w.event_id) w.room_id, w.event_id, w.anchor_id
  FROM (SELECT * FROM waiting LIMIT 100000) AS w
 CROSS JOIN LATERAL (SELECT nid FROM pdus WHERE event_id = w.event_id AND room_id = w.room_id OFFSET 0) AS p
 WHERE (SELECT count(*) FROM event_states e WHERE e.event_nid = p.nid) = 0
   AND (SELECT count(*) FROM outlier_verdicts o WHERE o.event_nid = p.nid) = 0
ON CONFLICT DO NOTHING;
