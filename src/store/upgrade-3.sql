-- From version 2, which knew no registries.
CREATE TABLE manifests (
    image    TEXT PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    manifest BLOB NOT NULL
) STRICT;

PRAGMA user_version = 3;
