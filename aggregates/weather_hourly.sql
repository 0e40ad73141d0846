-- Each airport's weather by the hour. The source has one observation an hour, so that a mean is the observation itself.
-- Fahrenheit, percent, degrees, miles an hour, inches, millibars, miles.
SELECT
    origin,
    COUNT(*) AS observations,
    AVG(temp) AS temp,
    AVG(dewp) AS dewp,
    AVG(humid) AS humid,
    MAX(wind_dir) AS wind_dir,                  -- directions have no mean
    AVG(wind_speed) AS wind_speed,
    MAX(wind_gust) AS wind_gust,
    SUM(precip) AS precip,
    AVG(pressure) AS pressure,
    MIN(visib) AS visib
FROM weather
WHERE observed_at >= :bucket_start AND observed_at < :bucket_end
GROUP BY origin
ORDER BY origin;
