-- min_compatible: 48
CREATE UNLOGGED TABLE "last_recovery" (
	"only" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"position" bigint NOT NULL,
	CONSTRAINT "last_recovery_is_one_row" CHECK ("last_recovery"."only")
);
--> statement-breakpoint
INSERT INTO "last_recovery" ("position") VALUES (0);
