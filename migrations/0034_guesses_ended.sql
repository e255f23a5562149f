-- min_compatible: 27
ALTER TABLE "correction_causes" ADD COLUMN "guess_ended" bigint;