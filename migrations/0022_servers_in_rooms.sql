-- min_compatible: 22
CREATE INDEX "room_servers_server_name" ON "room_servers" USING btree ("server_name");