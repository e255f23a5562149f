-- The journal starts before position 1; the row is never deleted.
INSERT INTO "journal_head" ("only", "position") VALUES (true, 0);
