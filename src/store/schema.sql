-- What volumes mean. The pool is the truth about which volumes exist; this is the truth about what they are.

-- The pool of this root directory; at most one.
CREATE TABLE pool (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    uuid     TEXT NOT NULL,
    driver   TEXT NOT NULL,
    size     INTEGER NOT NULL,
    -- A growth that was begun and is not known to be finished.
    grow_to  INTEGER,
    chunk    INTEGER NOT NULL,
    fs       TEXT NOT NULL,
    data     TEXT,
    metadata TEXT,
    state    TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'destroying'))
) STRICT;

-- One row per volume. AUTOINCREMENT: no number is used again before the last one was (next_volume).
CREATE TABLE snapshots (
    volume   INTEGER PRIMARY KEY AUTOINCREMENT,
    key      TEXT NOT NULL UNIQUE,
    kind     TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
    parent   INTEGER REFERENCES snapshots (volume),
    state    TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'removing')),
    -- 0: nobody wants it but a living process that holds its lock; recovery removes it once that lock is free.
    kept     INTEGER NOT NULL CHECK (kept IN (0, 1)),
    cache_id TEXT NOT NULL UNIQUE,
    created  TEXT NOT NULL,
    -- Of a committed one: apparent bytes of its layer's files, and its own bytes in the pool once somebody asked.
    size     INTEGER,
    own      INTEGER,
    -- Of a layer that came from an archive, kept in blobs/CACHE_ID: how it came (what came plain is kept as zstd), then
    -- sha256 and bytes of the file, and bytes of the tar. All NULL for a layer that is packed again when it is wanted.
    blob_format TEXT CHECK (blob_format IN ('gzip', 'zstd', 'plain')),
    blob_digest TEXT,
    blob_size   INTEGER,
    blob_plain  INTEGER
) STRICT;
CREATE INDEX snapshots_parent ON snapshots (parent);
CREATE INDEX snapshots_unfinished ON snapshots (volume) WHERE state <> 'ready' OR kept = 0;

CREATE TABLE images (
    id     TEXT PRIMARY KEY,
    config BLOB NOT NULL,
    -- The uppermost layer; NULL for an image without layers.
    top    INTEGER REFERENCES snapshots (volume)
) STRICT;
CREATE INDEX images_top ON images (top);

CREATE TABLE tags (
    reference TEXT PRIMARY KEY,
    image     TEXT NOT NULL REFERENCES images (id)
) STRICT;
CREATE INDEX tags_image ON tags (image);

CREATE TABLE containers (
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    image    TEXT NOT NULL REFERENCES images (id),
    -- What the user wrote, for the listing: a tag may move to another image later.
    reference TEXT NOT NULL,
    snapshot INTEGER NOT NULL UNIQUE REFERENCES snapshots (volume),
    created  TEXT NOT NULL
) STRICT;
CREATE INDEX containers_image ON containers (image);

-- What each step of a build made: the cache, and which image came from which.
CREATE TABLE steps (
    -- The image before the step, which may be gone; '' for none.
    parent TEXT NOT NULL,
    -- The digest of what the step does.
    act    TEXT NOT NULL,
    image  TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (parent, act)
) STRICT;
CREATE INDEX steps_image ON steps (image);

-- The manifest that an image was last pulled with: pushed, it has the same digest.
CREATE TABLE manifests (
    image    TEXT PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    manifest BLOB NOT NULL
) STRICT;

PRAGMA user_version = 3;
