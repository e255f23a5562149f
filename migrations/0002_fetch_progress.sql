-- By hand: what is lost in a crash of PostgreSQL is written again within a second.
CREATE UNLOGGED TABLE "fetch_progress" (
	"room_id" text PRIMARY KEY NOT NULL,
	"epoch" integer NOT NULL,
	"attempt_no" integer NOT NULL,
	"wanted" integer NOT NULL,
	"held" integer NOT NULL,
	"bytes" bigint NOT NULL,
	"at" bigint NOT NULL
);
