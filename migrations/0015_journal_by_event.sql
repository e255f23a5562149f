-- min_compatible: 15
CREATE INDEX "journal_by_event" ON "journal" USING btree ("event_id") WHERE event_id IS NOT NULL AND type NOT IN ('PduAccepted', 'PduRejected', 'EventUnPartialStated');
