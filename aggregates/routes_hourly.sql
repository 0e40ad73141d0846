-- Each route by the hour of scheduled departure. Air time in minutes.
SELECT
    origin,
    destination,
    COUNT(*) AS flights,
    COUNT(actual_departure) AS departed,
    COUNT(dep_delay) AS dep_delays,
    SUM(dep_delay) AS sum_dep_delay,
    SUM(dep_delay) * 1e0 / COUNT(dep_delay) AS mean_dep_delay,
    COUNT(arr_delay) AS arr_delays,
    SUM(arr_delay) AS sum_arr_delay,
    SUM(arr_delay) * 1e0 / COUNT(arr_delay) AS mean_arr_delay,
    COUNT(air_time) AS air_times,
    SUM(air_time) AS sum_air_time,
    SUM(air_time) * 1e0 / COUNT(air_time) AS mean_air_time
FROM flight
WHERE scheduled_departure >= :bucket_start AND scheduled_departure < :bucket_end
GROUP BY origin, destination
ORDER BY origin, destination;
