ALTER TABLE "join_intents" ADD COLUMN "what" text DEFAULT 'join' NOT NULL;--> statement-breakpoint
ALTER TABLE "join_intents" ADD COLUMN "attempts" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "join_intents" ADD COLUMN "not_before" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "join_intents" ADD COLUMN "claimed_until" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "join_intents" ADD COLUMN "last_reason" text;