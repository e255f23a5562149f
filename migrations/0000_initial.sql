CREATE TABLE "event_states" (
	"event_nid" bigint PRIMARY KEY NOT NULL,
	"event_id" text NOT NULL,
	"room_id" text NOT NULL,
	"epoch" integer NOT NULL,
	"position" bigint NOT NULL,
	"state_before" "bytea" NOT NULL,
	"state_after" "bytea" NOT NULL,
	"verdict" text NOT NULL,
	"soft_failed" boolean NOT NULL,
	"rule" text,
	"reason" text,
	"partial" boolean NOT NULL,
	CONSTRAINT "event_states_by_event_id" UNIQUE("event_id")
);
--> statement-breakpoint
CREATE TABLE "forward_extremities" (
	"room_id" text NOT NULL,
	"event_id" text NOT NULL,
	CONSTRAINT "forward_extremities_room_id_event_id_pk" PRIMARY KEY("room_id","event_id")
);
--> statement-breakpoint
CREATE TABLE "join_intents" (
	"event_id" text PRIMARY KEY NOT NULL,
	"room_id" text NOT NULL,
	"user_id" text NOT NULL,
	"event" json NOT NULL,
	"room_version" text NOT NULL,
	"resident" text NOT NULL,
	"via" text[] NOT NULL,
	"created_at" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "journal" (
	"position" bigint PRIMARY KEY NOT NULL,
	"room_id" text NOT NULL,
	"epoch" integer NOT NULL,
	"stream" text NOT NULL,
	"seq" bigint NOT NULL,
	"type" text NOT NULL,
	"data" json NOT NULL,
	"attempt_no" integer,
	"event_id" text,
	"recorded_at" bigint NOT NULL,
	CONSTRAINT "journal_by_seq" UNIQUE("room_id","stream","seq")
);
--> statement-breakpoint
CREATE TABLE "journal_head" (
	"only" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"position" bigint NOT NULL,
	CONSTRAINT "journal_head_is_one_row" CHECK ("journal_head"."only")
);
--> statement-breakpoint
CREATE TABLE "local_members" (
	"room_id" text NOT NULL,
	"user_id" text NOT NULL,
	"membership" text NOT NULL,
	"event_id" text NOT NULL,
	CONSTRAINT "local_members_room_id_user_id_pk" PRIMARY KEY("room_id","user_id")
);
--> statement-breakpoint
CREATE TABLE "pdus" (
	"nid" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "pdus_nid_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"event_id" text NOT NULL,
	"room_id" text NOT NULL,
	"state_key_nid" bigint,
	"type" text NOT NULL,
	"sender" text NOT NULL,
	"membership" text,
	"depth" bigint NOT NULL,
	"origin_server_ts" bigint NOT NULL,
	"prev_events" text[] NOT NULL,
	"auth_events" text[] NOT NULL,
	"json" json NOT NULL,
	"hollow" boolean NOT NULL,
	"rejected_rule" text,
	"rejected_reason" text,
	"stored_at" bigint NOT NULL,
	CONSTRAINT "pdus_by_event_id" UNIQUE("event_id")
);
--> statement-breakpoint
CREATE TABLE "received_transactions" (
	"origin" text NOT NULL,
	"txn_id" text NOT NULL,
	"response" json NOT NULL,
	"received_at" bigint NOT NULL,
	CONSTRAINT "received_transactions_origin_txn_id_pk" PRIMARY KEY("origin","txn_id")
);
--> statement-breakpoint
CREATE TABLE "resyncs" (
	"room_id" text NOT NULL,
	"epoch" integer NOT NULL,
	"seq" bigint NOT NULL,
	"state" json NOT NULL,
	"phase" text NOT NULL,
	"next_wake_at" bigint,
	"rung_at" bigint,
	CONSTRAINT "resyncs_room_id_epoch_pk" PRIMARY KEY("room_id","epoch")
);
--> statement-breakpoint
CREATE TABLE "rooms" (
	"room_id" text PRIMARY KEY NOT NULL,
	"room_version" text NOT NULL,
	"epoch" integer DEFAULT 0 NOT NULL,
	"state_version" bigint DEFAULT 0 NOT NULL,
	"partial" boolean DEFAULT false NOT NULL,
	"current_state" "bytea",
	"join_event_id" text,
	"joined_via" text,
	"resync_seq" bigint DEFAULT 0 NOT NULL,
	"timeline_seq" bigint DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "server_keys" (
	"server_name" text NOT NULL,
	"key_id" text NOT NULL,
	"public_key" text NOT NULL,
	"valid_until_ts" bigint NOT NULL,
	"expired" boolean NOT NULL,
	"fetched_at" bigint NOT NULL,
	CONSTRAINT "server_keys_server_name_key_id_pk" PRIMARY KEY("server_name","key_id")
);
--> statement-breakpoint
CREATE TABLE "snapshot_chunks" (
	"room_id" text NOT NULL,
	"hash" "bytea" NOT NULL,
	"body" "bytea" NOT NULL,
	CONSTRAINT "snapshot_chunks_room_id_hash_pk" PRIMARY KEY("room_id","hash")
);
--> statement-breakpoint
CREATE TABLE "state_keys" (
	"nid" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "state_keys_nid_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"type" text NOT NULL,
	"state_key" text NOT NULL,
	CONSTRAINT "state_keys_by_name" UNIQUE("type","state_key")
);
--> statement-breakpoint
CREATE INDEX "event_states_by_position" ON "event_states" USING btree ("room_id","position");--> statement-breakpoint
CREATE INDEX "event_states_partial" ON "event_states" USING btree ("room_id","position") WHERE partial;--> statement-breakpoint
CREATE INDEX "join_intents_by_room" ON "join_intents" USING btree ("room_id","user_id");--> statement-breakpoint
CREATE INDEX "journal_by_room" ON "journal" USING btree ("room_id","position");--> statement-breakpoint
CREATE UNIQUE INDEX "journal_one_start_an_attempt" ON "journal" USING btree ("room_id","epoch","attempt_no") WHERE type = 'StateFetchStarted';--> statement-breakpoint
CREATE UNIQUE INDEX "journal_one_outcome_an_attempt" ON "journal" USING btree ("room_id","epoch","attempt_no") WHERE type IN ('StateFetchFailed', 'StateFetched');--> statement-breakpoint
CREATE UNIQUE INDEX "journal_one_verdict_an_event" ON "journal" USING btree ("room_id","epoch","event_id") WHERE type IN ('PduAccepted', 'PduRejected');--> statement-breakpoint
CREATE UNIQUE INDEX "journal_one_un_partial_stating_an_event" ON "journal" USING btree ("room_id","epoch","event_id") WHERE type = 'EventUnPartialStated';--> statement-breakpoint
CREATE INDEX "local_members_by_user" ON "local_members" USING btree ("user_id","membership");--> statement-breakpoint
CREATE INDEX "received_transactions_by_age" ON "received_transactions" USING btree ("received_at");--> statement-breakpoint
CREATE INDEX "resyncs_by_next_wake" ON "resyncs" USING btree ("next_wake_at") WHERE next_wake_at IS NOT NULL;