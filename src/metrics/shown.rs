//! What the page shows of the series, read from the counters themselves, so that page and `/metrics` never differ.

use std::sync::PoisonError;

use prometheus::core::Metric;

use super::{Metrics, StreamMetrics};

impl Metrics {
    /// How full a stream's queue is, 0 to 1, and how many records wait in it; `None` before it is opened.
    pub fn queue_state(&self, stream: &str, queue: &str) -> Option<(f64, i64)> {
        let label = format!("{stream}/{queue}");
        let queues = self.0.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.iter().find(|queue| *queue.label == *label)?;
        Some((queue.fill_ratio(), queue.records.get().max(0)))
    }

    /// Bytes of the memory budget, and what is used of it.
    pub fn memory(&self) -> (u64, u64) {
        let budget = u64::try_from(self.0.memory_budget.get()).unwrap_or_default();
        (budget, self.0.memory_meter.get().map_or(0, |used| used()))
    }
}

impl StreamMetrics {
    /// The end-to-end latency's buckets so far: upper bound in seconds, the last infinite, and how many records were at
    /// most that late.
    pub fn latencies(&self) -> Vec<(f64, u64)> {
        let metric = self.end_to_end_latency.metric();
        let histogram = metric.get_histogram();
        let bounded = histogram.get_bucket().iter().map(|b| (b.upper_bound(), b.cumulative_count()));
        bounded.chain([(f64::INFINITY, histogram.get_sample_count())]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_memory_and_latencies_are_told_as_they_are() {
        let metrics = Metrics::new("1", "r");
        assert_eq!(metrics.queue_state("orders", "writer"), None);
        let stream = metrics.stream("orders");
        let queue = stream.queue("writer", 2);
        queue.entered(40);
        assert_eq!(metrics.queue_state("orders", "writer"), Some((0.5, 40)));
        assert_eq!(metrics.memory(), (0, 0));
        metrics.meter_memory(100, Box::new(|| 7));
        assert_eq!(metrics.memory(), (100, 7));
        [0.0004, 0.04, 7000.0].into_iter().for_each(|seconds| stream.end_to_end_latency.observe(seconds));
        let latencies = stream.latencies();
        assert_eq!((latencies[0], latencies.last()), ((0.001, 1), Some(&(f64::INFINITY, 3))));
    }
}
