CREATE TABLE "missing_events" (
	"room_id" text NOT NULL,
	"event_id" text NOT NULL,
	"epoch" integer NOT NULL,
	"why" text NOT NULL,
	"since" bigint NOT NULL,
	"asked_of" text[] NOT NULL,
	"is_given_up" boolean NOT NULL,
	"found_at" bigint,
	CONSTRAINT "missing_events_room_id_event_id_pk" PRIMARY KEY("room_id","event_id")
);
--> statement-breakpoint
CREATE TABLE "room_servers" (
	"room_id" text NOT NULL,
	"server_name" text NOT NULL,
	"source" text NOT NULL,
	"since" bigint NOT NULL,
	CONSTRAINT "room_servers_room_id_server_name_pk" PRIMARY KEY("room_id","server_name")
);
--> statement-breakpoint
CREATE TABLE "destinations" (
	"server_name" text PRIMARY KEY NOT NULL,
	"failures" integer NOT NULL,
	"not_before" bigint NOT NULL,
	"last_failure" text NOT NULL,
	"last_failed_at" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "fetch_attempts" (
	"room_id" text PRIMARY KEY NOT NULL,
	"epoch" integer NOT NULL,
	"attempt_no" integer NOT NULL,
	"begins" integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX "missing_events_given_up" ON "missing_events" USING btree ("since") WHERE is_given_up AND found_at IS NULL;--> statement-breakpoint
INSERT INTO room_servers (room_id, server_name, source, since)
SELECT DISTINCT ON (r.room_id, c.name) r.room_id, c.name, CASE WHEN c.name = r.joined_via THEN 'answered' ELSE 'hint' END, 0
  FROM rooms r JOIN resyncs s ON s.room_id = r.room_id AND s.epoch = r.epoch
 CROSS JOIN json_array_elements_text(s.state -> 'candidates') AS c(name);
