//! Statements over many rows, each of few lengths, so that few of them are prepared and kept.

/// Cuts items into parts whose lengths are powers of two up to `most`, largest first.
pub fn powers_of_two<T>(items: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let length = most.min(1 << rest.len().checked_ilog2()?);
        let (part, after) = rest.split_at(length);
        rest = after;
        Some(part)
    })
}

/// How many of so many rows the next statement takes: 256, 128, 64, a multiple of 8, or fewer than 8. Some twenty lengths
/// serve all, and few rows need two statements at most.
pub fn of_few_lengths(rows: usize) -> usize {
    match rows {
        0..8 => rows,
        8..64 => rows / 8 * 8,
        _ => 1 << rows.ilog2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_need_two_statements_and_many_lengths_are_few() {
        let cut = |mut rows: usize| {
            let mut parts = Vec::new();
            while rows > 0 {
                parts.push(of_few_lengths(rows));
                rows -= parts[parts.len() - 1];
            }
            parts
        };
        assert_eq!(cut(500), [256, 128, 64, 48, 4]);
        assert!((0..64).all(|rows| cut(rows).len() <= 2));
        let lengths: std::collections::BTreeSet<usize> = (0..=500).flat_map(cut).collect();
        assert_eq!(lengths.len(), 17, "{lengths:?}");
    }

    #[test]
    fn parts_have_few_lengths_and_leave_nothing_out() {
        let items: Vec<usize> = (0..1000).collect();
        let parts: Vec<&[usize]> = powers_of_two(&items, 256).collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [256, 256, 256, 128, 64, 32, 8]);
        assert_eq!(parts.concat(), items);
        assert_eq!(powers_of_two(&items[..0], 256).count(), 0);
    }
}
