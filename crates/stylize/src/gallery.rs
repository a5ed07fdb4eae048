//! A contact sheet: a row for each input and style, with the result for every `--alpha`.

use std::path::Path;

use anyhow::Result;
use image::{Rgb, RgbImage, imageops};

use crate::batch::say;
use crate::builtin;
use crate::lettering::{self, LINE_HEIGHT};
use crate::options::Options;
use crate::picture::{Picture, format_of, list};
use crate::studio::{Sample, Studio};

/// The longer side of a picture without `--max-size`.
const SIDE: u32 = 384;

/// The default of `--alpha`.
const ALPHAS: [f64; 4] = [0.25, 0.5, 0.75, 1.];

/// The pixels between cells.
const GAP: u32 = 8;

/// A picture with a label.
#[derive(Clone)]
pub struct Cell {
    pub label: String,
    pub image: RgbImage,
}

/// Makes the sheet of the options and writes it to `path`.
pub fn run(options: &Options, path: &Path) -> Result<()> {
    let format = format_of(path)?;
    let mut studio = Studio::open(options)?;
    let side = options.max_size.unwrap_or(SIDE);
    let cell = |path: &Path| -> Result<Cell> {
        let name = path.file_name().unwrap_or_default();
        Ok(Cell {
            label: name.to_string_lossy().into_owned(),
            image: Picture::read(path)?.at_most(side).rgb,
        })
    };
    let mut inputs = list(&options.input)?
        .iter()
        .map(|path| cell(path))
        .collect::<Result<Vec<_>>>()?;
    if inputs.is_empty() {
        let rgb = builtin::picture();
        let image = Picture { rgb, alpha: None }.at_most(side).rgb;
        let label = "input".to_string();
        inputs.push(Cell { label, image });
    }
    let styles = options.style.iter().map(|path| cell(path));
    let styles = styles.collect::<Result<Vec<_>>>()?;
    let alphas = match options.alpha.as_slice() {
        [] => &ALPHAS,
        alphas => alphas,
    };

    let mut rows = Vec::new();
    for input in &inputs {
        let mut row = |style: Option<(usize, &Cell)>| -> Result<()> {
            let shown = [Some(input), style.map(|(_, cell)| cell)];
            let mut row: Vec<Cell> = shown.into_iter().flatten().cloned().collect();
            let samples = style.into_iter().map(|(index, cell)| Sample {
                rgb: &cell.image,
                weight: 1.,
                index,
            });
            let samples: Vec<_> = samples.collect();
            for &alpha in alphas {
                studio.set_style(options, &samples, alpha)?;
                row.push(Cell {
                    label: format!("alpha {alpha}"),
                    image: studio.restyle(options, &input.image, alpha, &|_, _| ())?,
                });
            }
            rows.push(row);
            Ok(())
        };
        if styles.is_empty() {
            row(None)?;
        }
        for style in styles.iter().enumerate() {
            row(Some(style))?;
        }
    }
    let rgb = sheet(&rows);
    let (width, height) = rgb.dimensions();
    Picture { rgb, alpha: None }.write(path, format)?;
    let count = rows.iter().map(Vec::len).sum::<usize>();
    let shown = path.display();
    say(format_args!(
        "{shown}: {count} pictures in {width}x{height}"
    ));
    Ok(())
}

/// Lays the cells out in rows and columns, each as large as its largest cell, with the labels above
/// the pictures.
pub fn sheet(rows: &[Vec<Cell>]) -> RgbImage {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.image.width()).max().unwrap_or(0)
    };
    let height = |row: &Vec<Cell>| {
        let heights = row.iter().map(|cell| cell.image.height());
        LINE_HEIGHT + 2 + heights.max().unwrap_or(0)
    };
    // A gap lies before, between and after the cells.
    let all = |lengths: &[u32]| GAP + lengths.iter().map(|length| length + GAP).sum::<u32>();
    let widths: Vec<_> = (0..columns).map(width).collect();
    let heights: Vec<_> = rows.iter().map(height).collect();
    let mut sheet = RgbImage::from_pixel(all(&widths), all(&heights), Rgb([255; 3]));
    for (index, row) in rows.iter().enumerate() {
        let y = i64::from(all(&heights[..index]));
        for (column, cell) in row.iter().enumerate() {
            let x = i64::from(all(&widths[..column]));
            lettering::write(&mut sheet, &cell.label, (x as i32, y as i32));
            imageops::replace(&mut sheet, &cell.image, x, y + i64::from(LINE_HEIGHT + 2));
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_lie_in_rows_and_columns() {
        let cell = |grey: u8, width, height| Cell {
            label: "a".into(),
            image: RgbImage::from_pixel(width, height, Rgb([grey; 3])),
        };
        let rows = [
            vec![cell(1, 20, 10), cell(2, 30, 12)],
            vec![cell(3, 24, 40), cell(4, 8, 9)],
        ];
        let sheet = sheet(&rows);
        let line = LINE_HEIGHT + 2;
        assert_eq!(
            sheet.dimensions(),
            (3 * GAP + 24 + 30, 3 * GAP + 12 + 40 + 2 * line)
        );
        let (left, right) = (GAP, 2 * GAP + 24);
        let (upper, lower) = (GAP + line, 2 * GAP + 2 * line + 12);
        for (grey, x, y, width, height) in [
            (1, left, upper, 20, 10),
            (2, right, upper, 30, 12),
            (3, left, lower, 24, 40),
            (4, right, lower, 8, 9),
        ] {
            let found = sheet
                .enumerate_pixels()
                .filter(|(.., pixel)| pixel.0 == [grey; 3]);
            assert_eq!(found.clone().count() as u32, width * height);
            for (at_x, at_y, _) in found {
                assert!((x..x + width).contains(&at_x) && (y..y + height).contains(&at_y));
            }
        }
        // Labels lie above the pictures.
        let dark = |x: u32, y: u32| {
            let mut pixels = sheet.enumerate_pixels();
            pixels.any(|(at_x, at_y, pixel)| {
                *pixel == lettering::INK && at_x / 7 == x / 7 && (y..y + line).contains(&at_y)
            })
        };
        assert!(dark(left, GAP) && dark(left, lower - line) && dark(right + 6, GAP));
    }
}
