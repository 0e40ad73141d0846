SELECT COUNT(*) AS orders
FROM orders
WHERE placed_at >= :bucket_start AND placed_at < :bucket_end
  AND shop = :shop
