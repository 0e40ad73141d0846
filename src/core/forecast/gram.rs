//! The Gram matrix of centred columns, in blocks of rows: `(X - m)ᵀ (X - m)` of n × p costs n p² multiplications and as many
//! additions by a general product, and half of them by symmetry. One pass over the rows, no copy of them as a whole.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};

/// Rows of a block: with 41 columns of doubles it is 168 KiB, which stays in a core's second cache while it is multiplied.
const BLOCK: usize = 512;
/// Columns of a tile: only tiles on and above the diagonal are multiplied. Narrower ones save more of the lower half, but
/// the kernel below packs each anew.
const TILE: usize = 16;
/// Rows that each thread must at least get.
const ROWS_OF_A_THREAD: usize = 20_000;
/// Rows that the provisional centre is the mean of.
const SAMPLED: usize = 1024;

/// Sums over rows, about the means.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    pub rows: usize,
    /// Means of the features, then of the truth.
    pub means: Array1<f64>,
    /// (p + 1) × (p + 1), symmetric; the truth is the last row and column.
    pub sums: Array2<f64>,
}

/// The Gram matrix of the features (rows × p, none missing) with the truth (rows) as the last column, by so many threads.
///
/// Sums are taken about a provisional centre, the mean of a sample of rows, and moved to the means at the end: the shifted
/// formula of Chan, Golub and LeVeque, "Algorithms for computing the sample variance", The American Statistician 37 (1983).
pub fn gram(x: ArrayView2<'_, f64>, y: ArrayView1<'_, f64>, threads: usize) -> Gram {
    let (rows, p) = x.dim();
    let centre = centre(x, y);
    let threads = threads_of(rows, threads);
    let each = rows.div_ceil(threads);
    let ranges: Vec<Range<usize>> = (0..threads).map(|i| (i * each).min(rows)..((i + 1) * each).min(rows)).collect();
    let parts: Vec<(Array1<f64>, Array2<f64>)> = if threads == 1 {
        vec![part(x, y, &centre, 0..rows)]
    } else {
        std::thread::scope(|scope| {
            let work: Vec<_> = ranges.into_iter().map(|range| scope.spawn(|| part(x, y, &centre, range))).collect();
            // A thread that panicked would have left sums out: its panic goes on here.
            work.into_iter().map(|work| work.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))).collect()
        })
    };
    let mut sum = Array1::zeros(p + 1);
    let mut sums = Array2::zeros((p + 1, p + 1));
    for (part_sum, part_sums) in parts {
        sum += &part_sum;
        sums += &part_sums;
    }
    let n = rows.max(1) as f64;
    let shift = &sum / n;
    for i in 0..=p {
        for j in i..=p {
            let value = sums[[i, j]] - n * shift[i] * shift[j];
            sums[[i, j]] = value;
            sums[[j, i]] = value;
        }
    }
    Gram { rows, means: centre + shift, sums }
}

/// How many threads so many rows are worth, of those that are allowed.
pub fn threads_of(rows: usize, allowed: usize) -> usize {
    allowed.clamp(1, rows.div_ceil(ROWS_OF_A_THREAD).max(1))
}

/// The mean of rows that lie evenly over all of them.
fn centre(x: ArrayView2<'_, f64>, y: ArrayView1<'_, f64>) -> Array1<f64> {
    let (rows, p) = x.dim();
    let mut centre = Array1::zeros(p + 1);
    let step = rows.div_ceil(SAMPLED).max(1);
    let mut count = 0.0;
    for at in (0..rows).step_by(step) {
        let mut features = centre.slice_mut(s![..p]);
        features += &x.row(at);
        centre[p] += y[at];
        count += 1.0;
    }
    if count > 0.0 { centre / count } else { centre }
}

/// Of some rows: the sums of the shifted columns, and of their products, of which the tiles below the diagonal are left 0.
fn part(
    x: ArrayView2<'_, f64>,
    y: ArrayView1<'_, f64>,
    centre: &Array1<f64>,
    range: Range<usize>,
) -> (Array1<f64>, Array2<f64>) {
    let width = centre.len();
    let p = width - 1;
    let mut sum = Array1::<f64>::zeros(width);
    let mut sums = Array2::<f64>::zeros((width, width));
    let mut block = Array2::<f64>::zeros((BLOCK, width));
    let mut start = range.start;
    while start < range.end {
        let end = (start + BLOCK).min(range.end);
        let rows = x.slice(s![start..end, ..]);
        for ((mut out, row), truth) in block.rows_mut().into_iter().zip(rows.rows()).zip(y.slice(s![start..end])) {
            ndarray::Zip::from(out.slice_mut(s![..p]))
                .and(row)
                .and(centre.slice(s![..p]))
                .for_each(|out, value, centre| *out = value - centre);
            out[p] = truth - centre[p];
            sum += &out;
        }
        let block = block.slice(s![..end - start, ..]);
        for left in (0..width).step_by(TILE) {
            let right = (left + TILE).min(width);
            general_mat_mul(
                1.0,
                &block.slice(s![.., left..right]).t(),
                &block.slice(s![.., left..]),
                1.0,
                &mut sums.slice_mut(s![left..right, left..]),
            );
        }
        start = end;
    }
    (sum, sums)
}
