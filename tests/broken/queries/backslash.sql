SELECT 'it\'s' AS word, COUNT(*) AS orders
FROM orders WHERE placed_at >= :bucket_start AND placed_at < :bucket_end
