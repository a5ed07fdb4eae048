//! Blending a result with the original, or with its colours.

use image::RgbImage;

/// Mixes `alpha` of the styled picture into the original.
pub fn blend(styled: &mut RgbImage, original: &RgbImage, alpha: f64) {
    let bytes = styled.iter_mut().zip(original.iter());
    for (styled, original) in bytes {
        let original = f64::from(*original);
        *styled = (original + alpha * (f64::from(*styled) - original)).round() as u8;
    }
}

/// Keeps the luma of the styled picture and takes the colours of the original (Gatys et al.,
/// [Preserving Color in Neural Artistic Style Transfer](https://arxiv.org/abs/1606.05897), 2016,
/// section 3.2): the difference in luma is added to the original's red, green and blue alike.
pub fn preserve(styled: &mut RgbImage, original: &RgbImage) {
    let luma = |pixel: &image::Rgb<u8>| {
        let [r, g, b] = pixel.0.map(f32::from);
        0.299 * r + 0.587 * g + 0.114 * b
    };
    for (styled, original) in styled.pixels_mut().zip(original.pixels()) {
        let lighter = luma(styled) - luma(original);
        styled.0 = original
            .0
            .map(|byte| (f32::from(byte) + lighter).round() as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn colours() {
        let original = RgbImage::from_pixel(1, 1, Rgb([200, 100, 50]));
        let grey = RgbImage::from_pixel(1, 1, Rgb([100, 100, 100]));
        let mut half = grey.clone();
        blend(&mut half, &original, 0.5);
        assert_eq!(half.get_pixel(0, 0).0, [150, 100, 75]);
        let mut preserved = grey;
        preserve(&mut preserved, &original);
        // The original's luma is 124.2.
        assert_eq!(preserved.get_pixel(0, 0).0, [176, 76, 26]);
    }
}
