-- min_compatible: 32
CREATE INDEX "destinations_by_rest" ON "destinations" USING btree ("not_before");