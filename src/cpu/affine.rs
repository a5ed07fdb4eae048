//! The affine function that normalizes the elements of a plane.

use super::vector::Vector;

/// `v = (x - mean) * scale + shift`
#[derive(Debug, Clone, Copy, Default)]
pub struct Affine<V> {
    pub mean: V,
    pub scale: V,
    pub shift: V,
}

impl<V> Affine<V> {
    #[inline(always)]
    pub fn map<W>(self, mut f: impl FnMut(V) -> W) -> Affine<W> {
        Affine {
            mean: f(self.mean),
            scale: f(self.scale),
            shift: f(self.shift),
        }
    }
}

impl<V: Vector> Affine<V> {
    #[inline(always)]
    pub fn of(&self, x: V) -> V {
        (x - self.mean).mul_add(self.scale, self.shift)
    }
}
