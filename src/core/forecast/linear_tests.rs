//! The fit against simple computations of the same.

use ndarray::{Array1, Array2, array};
use proptest::prelude::*;

use super::*;

/// Numbers that look random and are the same each time: a linear congruential generator's, -1 to 1.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

fn random(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    Array2::from_shape_simple_fn((rows, columns), noise(seed))
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0)
}

/// By Gauss's elimination of the normal equations with a column of ones, in the textbook's way.
fn textbook(x: &Array2<f64>, y: &Array1<f64>) -> Vec<f64> {
    let size = x.ncols() + 1;
    let value = |row: usize, column: usize| if column == 0 { 1.0 } else { x[[row, column - 1]] };
    let mut table = vec![vec![0.0; size + 1]; size];
    for (i, line) in table.iter_mut().enumerate() {
        for (j, cell) in line.iter_mut().enumerate() {
            let right = |row: usize| if j == size { y[row] } else { value(row, j) };
            *cell = (0..x.nrows()).map(|row| value(row, i) * right(row)).sum();
        }
    }
    for i in 0..size {
        let pivot = (i..size).max_by(|a, b| table[*a][i].abs().total_cmp(&table[*b][i].abs())).unwrap();
        table.swap(i, pivot);
        for other in 0..size {
            if other != i {
                let factor = table[other][i] / table[i][i];
                let row = table[i].clone();
                table[other].iter_mut().zip(row).skip(i).for_each(|(cell, above)| *cell -= factor * above);
            }
        }
    }
    (0..size).map(|i| table[i][size] / table[i][i]).collect()
}

proptest! {
    #[test]
    fn sums_are_those_of_the_plain_loops(
        rows in 1..1500_usize,
        columns in 1..40_usize,
        offset in -1e6..1e6_f64,
        seed in 0..u64::MAX,
    ) {
        let x = random(rows, columns, seed) + offset;
        let y: Array1<f64> = random(rows, 1, seed ^ 1).column(0).to_owned();
        let gram = gram(x.view(), y.view(), 3);
        let column = |j: usize| if j == columns { y.view() } else { x.column(j) };
        let means: Vec<f64> = (0..=columns).map(|j| column(j).sum() / rows as f64).collect();
        for i in 0..=columns {
            prop_assert!(near(gram.means[i], means[i], 1e-12));
            for j in 0..=columns {
                let pairs = column(i).into_iter().zip(column(j));
                let plain: f64 = pairs.map(|(a, b)| (a - means[i]) * (b - means[j])).sum();
                // Doubles around the offset have steps of that size, times a row's share of the sum.
                let step = (offset.abs() + 1.0) * 1e-15 * rows as f64;
                prop_assert!((gram.sums[[i, j]] - plain).abs() <= 1e-9 + step, "{} {}", gram.sums[[i, j]], plain);
                prop_assert_eq!(gram.sums[[i, j]], gram.sums[[j, i]]);
            }
        }
    }

    #[test]
    fn coefficients_are_the_textbooks_and_linfas(rows in 60..400_usize, columns in 1..25_usize, seed in 0..u64::MAX) {
        let x = random(rows, columns, seed);
        let mut next = noise(seed ^ 7);
        let y: Array1<f64> = x.sum_axis(ndarray::Axis(1)).mapv(|sum| 3.0 + 2.0 * sum + next());
        let [ours, linfas] = [fit(x.view(), y.view(), 1), fit_linfa(x.view(), y.view())].map(Result::unwrap);
        prop_assert_eq!(ours.solver, Solver::Cholesky);
        let plain = textbook(&x, &y);
        prop_assert!(near(ours.intercept, plain[0], 1e-9) && near(linfas.intercept, plain[0], 1e-9));
        for column in 0..columns {
            prop_assert!(near(ours.coefficients[column], plain[column + 1], 1e-9));
            prop_assert!(near(linfas.coefficients[column], plain[column + 1], 1e-9));
        }
    }

    #[test]
    fn residuals_are_at_right_angles_to_every_feature(rows in 60..300_usize, columns in 1..20_usize, seed in 0..u64::MAX) {
        let x = random(rows, columns, seed);
        let y: Array1<f64> = random(rows, 1, seed ^ 3).column(0).to_owned();
        let residuals = &y - &fit(x.view(), y.view(), 1).unwrap().predict(x.view());
        prop_assert!(residuals.sum().abs() < 1e-9);
        prop_assert!(x.t().dot(&residuals).iter().all(|product| product.abs() < 1e-9));
    }
}

#[test]
fn many_rows_are_summed_by_several_threads_as_by_one() {
    let x = random(100_003, 5, 11);
    let y: Array1<f64> = x.column(0).mapv(|value| 4.0 * value - 1.0);
    let [one, four] = [1, 4].map(|threads| gram(x.view(), y.view(), threads));
    assert!(one.sums.iter().zip(&four.sums).all(|(a, b)| near(*a, *b, 1e-12)));
    let fitted = fit(x.view(), y.view(), 4).unwrap();
    assert!(near(fitted.coefficients[0], 4.0, 1e-12) && near(fitted.intercept, -1.0, 1e-12));
}

#[test]
fn columns_that_almost_repeat_each_other_are_left_to_the_qr_which_gets_them_right() {
    let mut x = random(500, 3, 5);
    let mut next = noise(17);
    // The third is the first, but for a ten-thousandth.
    let close: Array1<f64> = x.column(0).mapv(|value| value + 1e-4 * next());
    x.column_mut(2).assign(&close);
    let y = &x.column(0) * 2.0 - x.column(1) + &x.column(2) * 3.0 + 7.0;
    let fitted = fit(x.view(), y.view(), 1).unwrap();
    assert_eq!(fitted.solver, Solver::Qr);
    for (found, expected) in fitted.coefficients.iter().zip([2.0, -1.0, 3.0]) {
        assert!(near(*found, expected, 1e-9), "{found}");
    }
    assert!(near(fitted.intercept, 7.0, 1e-9));
}

#[test]
fn columns_that_say_nothing_of_their_own_get_no_coefficient() {
    let base = random(200, 2, 9);
    let x = Array2::from_shape_fn((200, 5), |(row, column)| match column {
        0 => base[[row, 0]],
        1 => 0.1,
        2 => base[[row, 1]],
        3 => base[[row, 0]] - 2.0 * base[[row, 1]] + 5.0,
        _ => 0.0,
    });
    let y = &base.column(0) + &base.column(1) * 2.0 + 1.0;
    let fitted = fit(x.view(), y.view(), 1).unwrap();
    assert_eq!(fitted.aliased, [1, 3, 4]);
    let expected = array![1.0, 0.0, 2.0, 0.0, 0.0];
    assert!(fitted.coefficients.iter().zip(&expected).all(|(a, b)| near(*a, *b, 1e-12)), "{fitted:?}");
    assert!(near(fitted.intercept, 1.0, 1e-12));
    // A truth that never changes has coefficients of 0, too.
    let flat = fit(base.view(), Array1::from_elem(200, 4.0).view(), 1).unwrap();
    assert!(near(flat.intercept, 4.0, 1e-12) && flat.coefficients.iter().all(|value| value.abs() < 1e-12));
}

#[test]
fn longleys_employment_comes_out_to_ten_digits() {
    // Longley (1967), whose columns all grow with the years; certified values: NIST, Statistical Reference Datasets.
    let table = [
        [60323.0, 83.0, 234289.0, 2356.0, 1590.0, 107608.0, 1947.0],
        [61122.0, 88.5, 259426.0, 2325.0, 1456.0, 108632.0, 1948.0],
        [60171.0, 88.2, 258054.0, 3682.0, 1616.0, 109773.0, 1949.0],
        [61187.0, 89.5, 284599.0, 3351.0, 1650.0, 110929.0, 1950.0],
        [63221.0, 96.2, 328975.0, 2099.0, 3099.0, 112075.0, 1951.0],
        [63639.0, 98.1, 346999.0, 1932.0, 3594.0, 113270.0, 1952.0],
        [64989.0, 99.0, 365385.0, 1870.0, 3547.0, 115094.0, 1953.0],
        [63761.0, 100.0, 363112.0, 3578.0, 3350.0, 116219.0, 1954.0],
        [66019.0, 101.2, 397469.0, 2904.0, 3048.0, 117388.0, 1955.0],
        [67857.0, 104.6, 419180.0, 2822.0, 2857.0, 118734.0, 1956.0],
        [68169.0, 108.4, 442769.0, 2936.0, 2798.0, 120445.0, 1957.0],
        [66513.0, 110.8, 444546.0, 4681.0, 2637.0, 121950.0, 1958.0],
        [68655.0, 112.6, 482704.0, 3813.0, 2552.0, 123366.0, 1959.0],
        [69564.0, 114.2, 502601.0, 3931.0, 2514.0, 125368.0, 1960.0],
        [69331.0, 115.7, 518173.0, 4806.0, 2572.0, 127852.0, 1961.0],
        [70551.0, 116.9, 554894.0, 4007.0, 2827.0, 130081.0, 1962.0],
    ];
    let x = Array2::from_shape_fn((16, 6), |(row, column)| table[row][column + 1]);
    let y: Array1<f64> = table.iter().map(|row| row[0]).collect();
    let fitted = fit(x.view(), y.view(), 1).unwrap();
    let certified = [
        15.061_872_271_373_3,
        -0.358_191_792_925_910e-1,
        -2.020_229_803_816_83,
        -1.033_226_867_173_59,
        -0.511_041_056_535_807e-1,
        1_829.151_464_613_55,
    ];
    for (found, certified) in fitted.coefficients.iter().zip(certified) {
        assert!((found / certified - 1.0).abs() < 1e-10, "{found} instead of {certified}, {:?}", fitted.solver);
    }
    assert!((fitted.intercept / -3_482_258.634_595_82 - 1.0).abs() < 1e-10, "{}", fitted.intercept);
}

#[test]
fn what_cant_be_fitted_is_refused() {
    let x = random(10, 10, 1);
    let y = Array1::zeros(10);
    let too_few = FitError::TooFew { rows: 10, features: 10, needed: 11 };
    assert_eq!(fit(x.view(), y.view(), 1), Err(too_few.clone()));
    assert_eq!(fit_linfa(x.view(), y.view()), Err(too_few));
    for bad in [f64::NAN, f64::INFINITY] {
        let mut x = random(50, 3, 1);
        x[[49, 2]] = bad;
        let y = Array1::zeros(50);
        assert_eq!(fit(x.view(), y.view(), 1), Err(FitError::NotFinite));
        assert_eq!(fit_linfa(x.view(), y.view()), Err(FitError::NotFinite));
    }
}
