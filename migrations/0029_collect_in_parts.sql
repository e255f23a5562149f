-- min_compatible: 27
-- By hand: what is lost in a crash of PostgreSQL is a pass that begins anew.
CREATE UNLOGGED TABLE "collections" (
	"room_id" text PRIMARY KEY NOT NULL,
	"pass" bigint GENERATED ALWAYS AS IDENTITY (sequence name "collections_pass_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"started_at" bigint NOT NULL,
	"events_to" bigint DEFAULT -1 NOT NULL,
	"states_to" bigint DEFAULT -1 NOT NULL,
	"reached_to" bigint DEFAULT 0 NOT NULL,
	"swept_to" "bytea",
	"swept_since" bigint,
	"is_over" boolean DEFAULT false NOT NULL,
	CONSTRAINT "collections_by_pass" UNIQUE("pass")
);
--> statement-breakpoint
CREATE UNLOGGED TABLE "reached_chunks" (
	"nid" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "reached_chunks_nid_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"pass" bigint NOT NULL,
	"hash" "bytea" NOT NULL,
	CONSTRAINT "reached_chunks_by_hash" UNIQUE("pass","hash")
);
--> statement-breakpoint
CREATE INDEX "reached_chunks_in_order" ON "reached_chunks" USING btree ("pass","nid");
