-- min_compatible: 32
ALTER TABLE "resyncs" ADD COLUMN "wanted_at" bigint;