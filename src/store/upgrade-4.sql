-- From version 3. By which digests registries know images. Such a name is one more way to an image, and keeps none.
CREATE TABLE digests (
    -- The full name without tag.
    repository TEXT NOT NULL,
    digest     TEXT NOT NULL,
    image      TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (repository, digest)
) STRICT;
CREATE INDEX digests_image ON digests (image);

-- Layers that are finished while the image that they are for is not: kept so that whoever pulls or loads it next finds
-- them. A layer leaves this table when an image has it.
CREATE TABLE waiting (
    volume INTEGER PRIMARY KEY REFERENCES snapshots (volume) ON DELETE CASCADE
) STRICT;

PRAGMA user_version = 4;
