-- min_compatible: 25
CREATE TABLE "client_transactions" (
	"user_id" text NOT NULL,
	"device_id" text NOT NULL,
	"room_id" text NOT NULL,
	"txn_id" text NOT NULL,
	"event_id" text NOT NULL,
	"sent_at" bigint NOT NULL,
	CONSTRAINT "client_transactions_user_id_device_id_room_id_txn_id_pk" PRIMARY KEY("user_id","device_id","room_id","txn_id")
);
--> statement-breakpoint
CREATE INDEX "client_transactions_by_event" ON "client_transactions" USING btree ("event_id");--> statement-breakpoint
CREATE INDEX "client_transactions_by_age" ON "client_transactions" USING btree ("sent_at");