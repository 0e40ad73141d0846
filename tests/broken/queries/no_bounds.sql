-- All orders, whenever.
SELECT shop, COUNT(*) AS orders
FROM orders
GROUP BY shop
