//! The gradient of an input from that of the input as the taps see it: the sum over all places where
//! a value is seen.

use rayon::prelude::*;

use super::plan::ZERO;
use super::vector::Acc;

/// Sums planes of `axes` to planes of the sides `to`, in the order of the rows and columns.
pub fn fold<A: Acc>(planes: &[A], axes: &[Vec<u32>; 2], to: [usize; 2]) -> Vec<A> {
    let [rows, columns] = axes;
    let [height, width] = to;
    let mut sums = vec![A::default(); planes.len() / (rows.len() * columns.len()) * height * width];
    let planes = planes.par_chunks(rows.len() * columns.len());
    planes
        .zip(sums.par_chunks_mut(height * width))
        .for_each(|(plane, sums)| {
            for (row, values) in rows.iter().zip(plane.chunks(columns.len())) {
                if *row == ZERO {
                    continue;
                }
                let sums = &mut sums[*row as usize * width..][..width];
                for (column, value) in columns.iter().zip(values) {
                    if *column != ZERO {
                        sums[*column as usize] += *value;
                    }
                }
            }
        });
    sums
}
