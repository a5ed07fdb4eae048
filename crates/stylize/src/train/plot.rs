//! A plot of the losses over the steps.

use image::{Rgb, RgbImage};

use crate::lettering::{INK, LINE_HEIGHT, lines, write, write_before};

const WIDTH: i32 = 720;
const HEIGHT: i32 = 400;
/// Room for the numbers beside the axes.
const LEFT: i32 = 64;
const RIGHT: i32 = 20;
const TOP: i32 = 24;
const BOTTOM: i32 = 36;

const GRID: Rgb<u8> = Rgb([225, 225, 225]);
const CURVES: [(&str, Rgb<u8>); 2] = [
    ("texture", Rgb([200, 80, 30])),
    ("content", Rgb([40, 90, 170])),
];

/// The curves are running means over a `WINDOW`th of all steps: single losses vary with the pictures.
const WINDOW: usize = 40;

/// Draws both losses over the steps, on a logarithmic scale.
pub fn draw(losses: &[[f32; 2]]) -> RgbImage {
    let mut image = RgbImage::from_pixel(WIDTH as u32, HEIGHT as u32, Rgb([255; 3]));
    let curves = [0, 1].map(|curve| smoothed(losses.iter().map(|loss| loss[curve])));
    let logs = curves
        .iter()
        .flatten()
        .copied()
        .filter(|log| log.is_finite());
    let (low, high) = logs.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), log| {
        (low.min(log), high.max(log))
    });
    let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.));
    let y = |log: f32| TOP + ((high - log) / (high - low) * (HEIGHT - TOP - BOTTOM) as f32) as i32;
    let last = losses.len().saturating_sub(1).max(1);
    let x = |step: usize| LEFT + (step * (WIDTH - LEFT - RIGHT) as usize / last) as i32;

    let middle = LINE_HEIGHT as i32 / 2;
    for decade in low as i32..=high as i32 {
        for (factor, label) in [(1f32, true), (2., false), (5., false)] {
            let log = decade as f32 + factor.log10();
            if log > high {
                continue;
            }
            lines(
                &mut image,
                &[(LEFT, y(log)), (WIDTH - RIGHT, y(log))],
                GRID,
                1,
            );
            if label {
                let text = format!("{:e}", 10f64.powi(decade));
                write_before(&mut image, &text, (LEFT - 6, y(log) - middle));
            }
        }
    }
    for quarter in 0..=4 {
        let step = losses.len() * quarter / 4;
        let at = x(step.min(last));
        lines(&mut image, &[(at, TOP), (at, HEIGHT - BOTTOM)], GRID, 1);
        write(
            &mut image,
            &step.to_string(),
            (at - 10, HEIGHT - BOTTOM + 6),
        );
    }
    write(&mut image, "step", (LEFT, HEIGHT - LINE_HEIGHT as i32 - 2));
    let axes = [
        (LEFT, TOP),
        (LEFT, HEIGHT - BOTTOM),
        (WIDTH - RIGHT, HEIGHT - BOTTOM),
    ];
    lines(&mut image, &axes, INK, 1);

    for (index, ((name, ink), curve)) in CURVES.iter().zip(&curves).enumerate() {
        let points: Vec<_> = curve
            .iter()
            .enumerate()
            .filter(|(_, log)| log.is_finite())
            .map(|(step, &log)| (x(step), y(log)))
            .collect();
        lines(&mut image, &points, *ink, 2);
        let left = LEFT + 10 + 130 * index as i32;
        lines(
            &mut image,
            &[(left, TOP - 9), (left + 20, TOP - 9)],
            *ink,
            2,
        );
        write(&mut image, &format!("{name} loss"), (left + 26, 8));
    }
    image
}

/// The decimal logarithms of the running means.
fn smoothed(losses: impl Iterator<Item = f32>) -> Vec<f32> {
    let losses: Vec<f32> = losses.collect();
    let window = losses.len().div_ceil(WINDOW);
    let mean = |end: usize| {
        let window = &losses[(end + 1).saturating_sub(window)..=end];
        (window.iter().sum::<f32>() / window.len() as f32).log10()
    };
    (0..losses.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowest(image: &RgbImage, ink: Rgb<u8>, column: u32) -> Option<u32> {
        let rows = TOP as u32..image.height();
        rows.rev().find(|&y| *image.get_pixel(column, y) == ink)
    }

    #[test]
    fn curves_fall_with_the_losses() {
        let losses: Vec<_> = (0..100)
            .map(|step| [1. / (1. + step as f32), 0.5])
            .collect();
        let image = draw(&losses);
        let (left, right) = (LEFT as u32 + 30, (WIDTH - RIGHT) as u32 - 30);
        let [texture, content] = CURVES.map(|(_, ink)| ink);
        assert!(lowest(&image, texture, left) < lowest(&image, texture, right));
        assert_eq!(
            lowest(&image, content, left),
            lowest(&image, content, right)
        );
        assert!(lowest(&image, content, left).is_some());
    }

    #[test]
    fn any_losses_can_be_drawn() {
        for losses in [
            &[][..],
            &[[0., 0.]],
            &[[1., 1.]],
            &[[f32::NAN, 1e9], [1e-9, 0.]],
        ] {
            assert_eq!(draw(losses).width(), WIDTH as u32);
        }
    }
}
