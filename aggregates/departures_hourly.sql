-- Each airport's departures by the hour they were scheduled for. A mean stands beside its sum and count; `* 1e0` makes it
-- a double on every database, so that it is the same to the last digit. Minutes, negative when early.
SELECT
    origin,
    COUNT(*) AS flights,
    COUNT(actual_departure) AS departed,
    COUNT(*) - COUNT(actual_departure) AS cancelled,
    COUNT(CASE WHEN dep_delay >= 15 THEN 1 END) AS late,        -- as the authorities count it
    COUNT(dep_delay) AS dep_delays,
    SUM(dep_delay) AS sum_dep_delay,
    SUM(dep_delay) * 1e0 / COUNT(dep_delay) AS mean_dep_delay,
    MAX(dep_delay) AS max_dep_delay,
    COUNT(arr_delay) AS arr_delays,
    SUM(arr_delay) AS sum_arr_delay,
    SUM(arr_delay) * 1e0 / COUNT(arr_delay) AS mean_arr_delay
FROM flight
WHERE scheduled_departure >= :bucket_start AND scheduled_departure < :bucket_end
GROUP BY origin
ORDER BY origin;
