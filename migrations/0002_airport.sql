-- Where flights leave and arrive, and where the weather is observed.
-- All but the code is null for an airport that is known by its code alone.
CREATE TABLE airport (
    code VARCHAR(3) NOT NULL,               -- FAA identifier
    name VARCHAR(64) NULL,
    latitude DOUBLE NULL,                   -- degrees, north positive
    longitude DOUBLE NULL,                  -- degrees, east positive
    altitude SMALLINT NULL,                 -- feet
    time_zone VARCHAR(32) NULL,             -- IANA name
    PRIMARY KEY (code),
    CONSTRAINT airport_latitude CHECK (latitude BETWEEN -90 AND 90),
    CONSTRAINT airport_longitude CHECK (longitude BETWEEN -180 AND 180)
);
