-- How many of a day's flights left how late, by class. `least_delay` puts the classes in order; it is null for the
-- cancelled, and for those that left early or on time.
SELECT
    CASE
        WHEN dep_delay IS NULL THEN 'cancelled'
        WHEN dep_delay <= 0 THEN 'on time'
        WHEN dep_delay < 15 THEN '1 to 14 minutes'
        WHEN dep_delay < 60 THEN '15 to 59 minutes'
        WHEN dep_delay < 180 THEN '1 to 3 hours'
        ELSE '3 hours and more'
    END AS delay_class,
    MIN(CASE
        WHEN dep_delay <= 0 THEN NULL
        WHEN dep_delay < 15 THEN 1
        WHEN dep_delay < 60 THEN 15
        WHEN dep_delay < 180 THEN 60
        WHEN dep_delay >= 180 THEN 180
    END) AS least_delay,
    COUNT(*) AS flights
FROM flight
WHERE scheduled_departure >= :bucket_start AND scheduled_departure < :bucket_end
GROUP BY delay_class
ORDER BY least_delay, delay_class;
