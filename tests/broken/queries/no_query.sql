UPDATE orders SET shop = 1
WHERE placed_at >= :bucket_start AND placed_at < :bucket_end
