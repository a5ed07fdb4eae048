//! What an op hands to a backend and gets back, for any kind of storage.

use crate::shapes::{Param, Planes};
use candle_core::{Layout, Result, Shape};

/// A storage and how a tensor lies in it.
pub type View<'a, S> = (&'a S, &'a Layout);

/// The inputs of the forward pass; weight and bias are contiguous.
pub struct Inputs<'a, S> {
    pub x: View<'a, S>,
    pub weight: Option<View<'a, S>>,
    pub bias: Option<View<'a, S>>,
}

impl<S> Inputs<'_, S> {
    pub fn planes(&self) -> Result<Planes> {
        Planes::new(self.x.1.dims())
    }
}

/// The gradients that are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub x: bool,
    pub weight: Option<Param>,
    pub bias: Option<Param>,
}

/// The gradients asked for, in contiguous storages with the dtypes of what they belong to.
pub struct Gradients<S> {
    pub x: Option<S>,
    pub weight: Option<S>,
    pub bias: Option<S>,
}

impl<S> Gradients<S> {
    pub fn map<R>(self, f: impl Fn(S) -> R) -> Gradients<R> {
        Gradients {
            x: self.x.map(&f),
            weight: self.weight.map(&f),
            bias: self.bias.map(&f),
        }
    }
}

/// The shape of plane statistics, `(2, N, C)`: means, then biased variances.
pub fn stats_shape(planes: &Planes) -> Shape {
    Shape::from((2, planes.n, planes.c))
}
