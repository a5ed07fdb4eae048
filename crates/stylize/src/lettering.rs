//! Text and lines on pictures.

use std::convert::Infallible;

use embedded_graphics::mono_font::{MonoTextStyle, ascii::FONT_7X13};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Polyline, PrimitiveStyle};
use embedded_graphics::text::{Alignment, Text};
use image::{Rgb, RgbImage};

/// The height of a line of text, in pixels.
pub const LINE_HEIGHT: u32 = 13;
/// The distance from the upper edge of a line to its baseline, in pixels.
const ASCENT: i32 = 10;

/// The colour of text and axes.
pub const INK: Rgb<u8> = Rgb([60, 60, 60]);

/// Writes a line with its upper left corner at a point, cut off at the edges of the picture.
pub fn write(image: &mut RgbImage, text: &str, at: (i32, i32)) {
    aligned(image, text, at, Alignment::Left);
}

/// [`write()`] with the upper right corner at the point.
pub fn write_before(image: &mut RgbImage, text: &str, at: (i32, i32)) {
    aligned(image, text, at, Alignment::Right);
}

fn aligned(image: &mut RgbImage, text: &str, (x, y): (i32, i32), alignment: Alignment) {
    let style = MonoTextStyle::new(&FONT_7X13, colour(INK));
    let text = Text::with_alignment(text, Point::new(x, y + ASCENT), style, alignment);
    let Ok(_) = text.draw(&mut Canvas(image));
}

/// Draws lines from point to point.
pub fn lines(image: &mut RgbImage, points: &[(i32, i32)], ink: Rgb<u8>, width: u32) {
    let points: Vec<_> = points.iter().map(|&(x, y)| Point::new(x, y)).collect();
    let style = PrimitiveStyle::with_stroke(colour(ink), width);
    let Ok(()) = Polyline::new(&points)
        .into_styled(style)
        .draw(&mut Canvas(image));
}

fn colour(Rgb([r, g, b]): Rgb<u8>) -> Rgb888 {
    Rgb888::new(r, g, b)
}

/// A picture as `embedded-graphics` draws on it.
struct Canvas<'a>(&'a mut RgbImage);

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Infallible>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        for Pixel(Point { x, y }, colour) in pixels {
            let (Ok(x), Ok(y)) = (x.try_into(), y.try_into()) else {
                continue;
            };
            if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
                *pixel = Rgb([colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}
