-- What flies. All but the tail number is null for an aircraft that is known by it alone.
CREATE TABLE aircraft (
    tail_number VARCHAR(6) NOT NULL,
    year_built SMALLINT NULL,
    type VARCHAR(32) NULL,                  -- Fixed wing multi engine, Rotorcraft, ...
    manufacturer VARCHAR(64) NULL,
    model VARCHAR(32) NULL,
    engines SMALLINT NULL,
    seats SMALLINT NULL,
    cruise_speed SMALLINT NULL,             -- miles an hour
    engine VARCHAR(16) NULL,                -- Turbo-fan, Reciprocating, ...
    PRIMARY KEY (tail_number)
);

-- Fleet by maker: how late, how old.
CREATE INDEX aircraft_by_manufacturer ON aircraft (manufacturer, model);
