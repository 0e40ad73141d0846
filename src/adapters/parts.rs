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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_few_lengths_and_leave_nothing_out() {
        let items: Vec<usize> = (0..1000).collect();
        let parts: Vec<&[usize]> = powers_of_two(&items, 256).collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [256, 256, 256, 128, 64, 32, 8]);
        assert_eq!(parts.concat(), items);
        assert_eq!(powers_of_two(&items[..0], 256).count(), 0);
    }
}
