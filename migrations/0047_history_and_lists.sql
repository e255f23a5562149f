-- min_compatible: 32
CREATE TABLE "history_edges" (
	"room_id" text NOT NULL,
	"epoch" integer NOT NULL,
	"event_id" text NOT NULL,
	"tries" integer DEFAULT 0 NOT NULL,
	"not_before" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "history_edges_room_id_epoch_event_id_pk" PRIMARY KEY("room_id","epoch","event_id")
);
--> statement-breakpoint
CREATE TABLE "history_events" (
	"room_id" text NOT NULL,
	"epoch" integer NOT NULL,
	"nth" integer NOT NULL,
	"event_id" text NOT NULL,
	CONSTRAINT "history_events_room_id_epoch_nth_pk" PRIMARY KEY("room_id","epoch","nth"),
	CONSTRAINT "history_events_by_event" UNIQUE("room_id","event_id")
);
--> statement-breakpoint
CREATE TABLE "listed_rooms" (
	"room_id" text PRIMARY KEY NOT NULL,
	"listed_at" bigint NOT NULL
);
