-- min_compatible: 16
ALTER TABLE "staged_rooms" ADD COLUMN "looked_at" bigint DEFAULT 0 NOT NULL;