-- From version 4, which knew no data volumes.
--
-- A data volume: ROOT/volumes/NAME/_data on the host's own file system. AUTOINCREMENT: its number is its lock's, and is
-- not used again.
CREATE TABLE volumes (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    name      TEXT NOT NULL UNIQUE,
    -- 1: made for one container, under a random name, and removed with it by 'rm -v'.
    anonymous INTEGER NOT NULL CHECK (anonymous IN (0, 1)),
    -- A JSON object.
    labels    TEXT NOT NULL,
    state     TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'removing')),
    -- 1: a container has had it. Until then it may be filled with what the image has in its place.
    used      INTEGER NOT NULL CHECK (used IN (0, 1)),
    created   TEXT NOT NULL
) STRICT;
CREATE INDEX volumes_unfinished ON volumes (number) WHERE state <> 'ready';

-- Which container has which volume, and where.
CREATE TABLE volume_uses (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    volume    INTEGER NOT NULL REFERENCES volumes (number),
    target    TEXT NOT NULL,
    read_only INTEGER NOT NULL CHECK (read_only IN (0, 1)),
    PRIMARY KEY (container, target)
) STRICT;
CREATE INDEX volume_uses_volume ON volume_uses (volume);

-- What a container may write, if that is limited.
ALTER TABLE snapshots ADD COLUMN size_limit INTEGER;

-- Sizes of a container as they were found, and the driver's mark of the content that they were found in.
CREATE TABLE measures (
    snapshot INTEGER PRIMARY KEY REFERENCES snapshots (volume) ON DELETE CASCADE,
    mark     TEXT NOT NULL,
    rw       INTEGER NOT NULL,
    own      INTEGER NOT NULL
) STRICT;

PRAGMA user_version = 5;
