-- One scheduled flight, with what became of it. Times are UTC.
-- Cancelled: actual_departure is null. Left, but never arrived where it was bound: arr_delay is null.
CREATE TABLE flight (
    scheduled_departure DATETIME(6) NOT NULL,
    carrier VARCHAR(2) NOT NULL,
    number SMALLINT NOT NULL,
    origin VARCHAR(3) NOT NULL,
    destination VARCHAR(3) NOT NULL,
    tail_number VARCHAR(6) NULL,            -- null for some of the cancelled flights and no others
    actual_departure DATETIME(6) NULL,
    dep_delay SMALLINT NULL,                -- minutes, negative when early
    sched_arr_time SMALLINT NOT NULL,       -- hhmm on the clock at the destination, whose zone is not always known
    arr_time SMALLINT NULL,                 -- the same
    arr_delay SMALLINT NULL,                -- minutes, negative when early
    air_time SMALLINT NULL,                 -- minutes
    distance SMALLINT NOT NULL,             -- miles, and no property of the route: for two routes the source has two values
    ingested_at DATETIME(6) NOT NULL,       -- when the record reached the broker
    PRIMARY KEY (scheduled_departure, carrier, number, origin),
    CONSTRAINT flight_carrier FOREIGN KEY (carrier) REFERENCES carrier (code),
    CONSTRAINT flight_origin FOREIGN KEY (origin) REFERENCES airport (code),
    CONSTRAINT flight_destination FOREIGN KEY (destination) REFERENCES airport (code),
    CONSTRAINT flight_aircraft FOREIGN KEY (tail_number) REFERENCES aircraft (tail_number),
    CONSTRAINT flight_sched_arr_time CHECK (sched_arr_time BETWEEN 0 AND 2400),
    CONSTRAINT flight_arr_time CHECK (arr_time BETWEEN 0 AND 2400)
);

-- The primary key serves every query over a span of time, and the refresh of a time bucket.
-- Departures and delays of one airport over time, and the foreign key to airport.
CREATE INDEX flight_by_origin ON flight (origin, scheduled_departure);
-- Arrivals and delays at one airport over time, and the foreign key to airport.
CREATE INDEX flight_by_destination ON flight (destination, scheduled_departure);
-- Punctuality of one carrier over time, and the foreign key to carrier.
CREATE INDEX flight_by_carrier ON flight (carrier, scheduled_departure);
-- The rotation of one aircraft: where a late one was before. Also the foreign key to aircraft.
CREATE INDEX flight_by_aircraft ON flight (tail_number, scheduled_departure);
