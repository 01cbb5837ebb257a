-- Of a layer that came from an archive: how it came, then sha256 and bytes of the file blobs/CACHE_ID, which is that archive
-- or the outline of a plain one, and bytes of the tar. All NULL for a layer that is packed again when it is wanted, and for
-- those of version 1, which kept nothing.
ALTER TABLE snapshots ADD COLUMN blob_format TEXT CHECK (blob_format IN ('gzip', 'zstd', 'plain'));
ALTER TABLE snapshots ADD COLUMN blob_digest TEXT;
ALTER TABLE snapshots ADD COLUMN blob_size INTEGER;
ALTER TABLE snapshots ADD COLUMN blob_plain INTEGER;

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

PRAGMA user_version = 2;
