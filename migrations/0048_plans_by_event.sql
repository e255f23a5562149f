-- min_compatible: 32
-- outside a transaction
-- By hand. What is looked up in these tables is looked up by its number, id or name, and then has to be of the room. Where there were few
-- rooms when PostgreSQL last took statistics, it took a room that has come since for one without rows: then each of its rows was compared
-- with each that was asked for, seven seconds for 1,000 of 100,000. Without statistics of rooms it takes a room for one in 200. Those that
-- were taken are forgotten where we may: they would stand for ever.
ALTER TABLE "pdus" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "event_states" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "event_edges" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "room_servers" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "snapshot_chunks" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "staged_pdus" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "left_out" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "awaited_events" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "missing_events" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "correction_causes" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "correction_targets" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
ALTER TABLE "history_events" ALTER COLUMN "room_id" SET STATISTICS 0;--> statement-breakpoint
DO $$
BEGIN
  DELETE FROM pg_statistic s USING pg_attribute a
   WHERE a.attrelid = s.starelid AND a.attnum = s.staattnum AND a.attname = 'room_id' AND a.attstattarget = 0
     AND a.attrelid IN (SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace);
EXCEPTION WHEN insufficient_privilege THEN
  NULL;
END $$
