-- One document a day, in UTC: all that left New York. A day without a flight has none, hence the HAVING.
SELECT
    COUNT(*) AS flights,
    COUNT(actual_departure) AS departed,
    COUNT(*) - COUNT(actual_departure) AS cancelled,
    COUNT(CASE WHEN actual_departure IS NOT NULL AND arr_delay IS NULL THEN 1 END) AS not_arrived,  -- where it was bound
    COUNT(CASE WHEN dep_delay >= 15 THEN 1 END) AS late,
    COUNT(DISTINCT carrier) AS carriers,
    COUNT(DISTINCT destination) AS destinations,
    COUNT(DISTINCT tail_number) AS aircraft,
    COUNT(dep_delay) AS dep_delays,
    SUM(dep_delay) AS sum_dep_delay,
    SUM(dep_delay) * 1e0 / COUNT(dep_delay) AS mean_dep_delay,
    COUNT(arr_delay) AS arr_delays,
    SUM(arr_delay) AS sum_arr_delay,
    SUM(arr_delay) * 1e0 / COUNT(arr_delay) AS mean_arr_delay,
    SUM(CASE WHEN actual_departure IS NOT NULL THEN distance ELSE 0 END) AS miles
FROM flight
WHERE scheduled_departure >= :bucket_start AND scheduled_departure < :bucket_end
HAVING COUNT(*) > 0;
