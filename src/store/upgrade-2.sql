-- From version 1, which kept no blobs: the layers that are there have none.
ALTER TABLE snapshots ADD COLUMN blob_format TEXT CHECK (blob_format IN ('gzip', 'zstd', 'plain'));
ALTER TABLE snapshots ADD COLUMN blob_digest TEXT;
ALTER TABLE snapshots ADD COLUMN blob_size INTEGER;
ALTER TABLE snapshots ADD COLUMN blob_plain INTEGER;

PRAGMA user_version = 2;
