-- min_compatible: 20
ALTER TABLE "pdus" ADD COLUMN "completed_at" bigint;
