-- One hourly observation at an airport. Values are those of the source, mistakes included (data/README.md).
CREATE TABLE weather (
    origin VARCHAR(3) NOT NULL,
    observed_at DATETIME(6) NOT NULL,       -- UTC
    temp DOUBLE NULL,                       -- degrees Fahrenheit
    dewp DOUBLE NULL,                       -- degrees Fahrenheit
    humid DOUBLE NULL,                      -- relative humidity, percent
    wind_dir SMALLINT NULL,                 -- degrees
    wind_speed DOUBLE NULL,                 -- miles an hour
    wind_gust DOUBLE NULL,                  -- miles an hour
    precip DOUBLE NULL,                     -- inches
    pressure DOUBLE NULL,                   -- millibars at sea level
    visib DOUBLE NULL,                      -- miles
    ingested_at DATETIME(6) NOT NULL,       -- when the record reached the broker
    PRIMARY KEY (origin, observed_at),
    CONSTRAINT weather_airport FOREIGN KEY (origin) REFERENCES airport (code),
    CONSTRAINT weather_wind_dir CHECK (wind_dir BETWEEN 0 AND 360)
);

-- Weather over a span of time at all airports, and the refresh of a time bucket. The key serves one airport.
CREATE INDEX weather_by_time ON weather (observed_at);
