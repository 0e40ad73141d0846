-- Who operates a flight.
CREATE TABLE carrier (
    code VARCHAR(2) NOT NULL,               -- IATA designator
    name VARCHAR(64) NULL,                  -- null: known by its code alone
    PRIMARY KEY (code)
);
