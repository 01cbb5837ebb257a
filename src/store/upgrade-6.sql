-- From version 5, whose containers had no processes: how each runs, JSON (container::Settings). Nothing in it says that
-- it does run: that is the kernel's to tell.
ALTER TABLE containers ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';

PRAGMA user_version = 6;
