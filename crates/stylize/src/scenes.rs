//! Pictures drawn in code: functions from a point of the unit square (y down) to a colour.

use image::{Rgb, RgbImage};

type Colour = [f32; 3];

/// The samples per pixel along each axis, for smooth edges.
const SAMPLES: u32 = 2;

/// Renders `scene` in `side` by `side` pixels.
pub fn draw(scene: fn(f32, f32) -> Colour, side: u32) -> RgbImage {
    let step = 1. / (side * SAMPLES) as f32;
    RgbImage::from_fn(side, side, |x, y| {
        let mut sum = [0.; 3];
        for sample in 0..SAMPLES * SAMPLES {
            let x = x * SAMPLES + sample % SAMPLES;
            let y = y * SAMPLES + sample / SAMPLES;
            let colour = scene((x as f32 + 0.5) * step, (y as f32 + 0.5) * step);
            for (sum, value) in sum.iter_mut().zip(colour) {
                *sum += value / (SAMPLES * SAMPLES) as f32;
            }
        }
        Rgb(sum.map(|value| (value * 255.).round() as u8))
    })
}

/// A summer morning: sun, clouds, blue mountains, striped fields, a house and some trees.
pub fn valley(x: f32, y: f32) -> Colour {
    let mut colour = mix(rgb(0x3f86d4), rgb(0xdff0fa), smooth(0., 0.62, y));

    let sun = distance(x, y, 0.74, 0.2);
    colour = mix(colour, rgb(0xfff3c4), 0.75 * (-9. * sun).exp());
    colour = mix(colour, rgb(0xfffbe6), smooth(0.062, 0.058, sun));

    for (cx, cy, size) in [(0.2, 0.16, 0.075), (0.47, 0.09, 0.05), (0.93, 0.33, 0.06)] {
        let cloud = cloud(x, y, cx, cy, size);
        let shade = mix(rgb(0xffffff), rgb(0xc3d5e6), smooth(cy, cy + size, y));
        colour = mix(colour, shade, 0.95 * cloud);
    }

    for (base, height, frequency, phase, near) in [
        (0.53, 0.15, 7.3, 0.4, 0x93b4d2),
        (0.58, 0.10, 10.1, 2.1, 0x6f9bb4),
    ] {
        let ridge = base - height * ridge(x * frequency + phase);
        let haze = mix(rgb(near), rgb(0xcfe1ea), smooth(ridge, 0.66, y));
        colour = mix(colour, haze, above(ridge, y));
    }

    let far = 0.63 - 0.05 * (x * 5. + 0.6).sin();
    let stripes = 0.5 + 0.5 * ((x * 0.9 - y * 1.6) * 150.).sin();
    let field = mix(rgb(0xa6c957), rgb(0xd9cf62), 0.6 * stripes);
    colour = mix(colour, field, above(far, y));
    for tree in 0..13 {
        let at = 0.03 + tree as f32 * 0.079 + 0.02 * (tree as f32 * 2.7).sin();
        let foot = 0.63 - 0.05 * (at * 5. + 0.6).sin();
        let size = 0.012 + 0.006 * (tree as f32 * 1.9).sin();
        let crown = smooth(size, 0.8 * size, distance(x, y, at, foot - 0.5 * size));
        colour = mix(colour, rgb(0x4f8a45), crown);
    }

    let near = 0.76 + 0.06 * (x * 4.2 + 0.3).sin();
    let meadow = mix(rgb(0x79b648), rgb(0x2f7a3a), smooth(near, 1.05, y));
    let tufts = (x * 83. + 3. * (y * 47.).sin()).sin() * (y * 71. + 2. * (x * 31.).sin()).sin();
    let meadow = mix(meadow, rgb(0xb5d962), 0.3 * smooth(0.35, 0.9, tufts));
    colour = mix(colour, meadow, above(near, y));

    // The path from the door to the lower edge.
    let middle = 0.295 + 0.13 * smooth(0.78, 1., y) + 0.02 * (y * 22.).sin();
    let half = 0.012 + 0.3 * (y - 0.78).max(0.).powi(2) + 0.03 * (y - 0.78).max(0.);
    let path = smooth(half, half - 0.006, (x - middle).abs()) * smooth(0.775, 0.785, y);
    colour = mix(colour, rgb(0xe4cf9d), path);

    colour = house(colour, x, y);
    for (cx, foot, size) in [(0.82, 0.86, 0.12), (0.66, 0.8, 0.07), (0.07, 0.88, 0.085)] {
        colour = tree(colour, x, y, cx, foot, size);
    }
    colour
}

fn house(mut colour: Colour, x: f32, y: f32) -> Colour {
    let chimney = inside(x, y, 0.345, 0.575, 0.372, 0.66);
    colour = mix(colour, rgb(0x9a4f3c), chimney);
    colour = mix(colour, rgb(0xf7ead2), inside(x, y, 0.2, 0.665, 0.4, 0.79));
    colour = mix(colour, rgb(0xd9c4a4), inside(x, y, 0.34, 0.665, 0.4, 0.79));
    let slope = 0.57 + 0.78 * ((x - 0.3).abs() - 0.03).max(0.);
    let tiles = 0.5 + 0.5 * ((y - slope) * 330.).sin();
    let roof = above(slope, y) * smooth(0.676, 0.674, y);
    colour = mix(colour, mix(rgb(0xc26a50), rgb(0xa4543f), tiles), roof);
    colour = mix(
        colour,
        rgb(0x7a4a2b),
        inside(x, y, 0.275, 0.715, 0.315, 0.79),
    );
    for left in [0.222, 0.348] {
        let window = inside(x, y, left, 0.703, left + 0.034, 0.745);
        let bars = inside(x, y, left + 0.015, 0.7, left + 0.019, 0.75).max(inside(
            x,
            y,
            left,
            0.722,
            left + 0.04,
            0.726,
        ));
        let pane = mix(rgb(0x4d7ba6), rgb(0xffffff), bars);
        colour = mix(colour, pane, window);
    }
    colour
}

fn tree(mut colour: Colour, x: f32, y: f32, cx: f32, foot: f32, size: f32) -> Colour {
    let shadow = distance(x - cx, 4. * (y - foot), 0.3 * size, 0.);
    colour = mix(
        colour,
        rgb(0x1f5a30),
        0.55 * smooth(size, 0.3 * size, shadow),
    );
    let trunk = 0.1 * size * (1. + smooth(foot - 0.3 * size, foot, y));
    let trunk = smooth(trunk, trunk - 0.004, (x - cx).abs());
    let trunk = trunk * inside(x, y, 0., foot - size, 1., foot);
    colour = mix(colour, rgb(0x6d4528), trunk);
    let blobs = [
        (0., -1.75, 0.72),
        (-0.55, -1.25, 0.62),
        (0.55, -1.2, 0.62),
        (0., -1.1, 0.7),
    ];
    for (dx, dy, radius) in blobs {
        let from = distance(x, y, cx + dx * size, foot + dy * size);
        let leaf = (x * 190. + 2. * (y * 120.).sin()).sin() * (y * 170.).sin();
        let edge = radius * size * (1. + 0.05 * leaf);
        let light = distance(x, y, cx + (dx - 0.3) * size, foot + (dy - 0.35) * size);
        let green = mix(
            rgb(0x7fbf4d),
            rgb(0x23703a),
            smooth(0., 1.1 * radius * size, light),
        );
        let green = mix(green, rgb(0xa4d85e), 0.3 * smooth(0.3, 1., leaf));
        colour = mix(colour, green, smooth(edge, edge - 0.004, from));
    }
    colour
}

fn rgb(hex: u32) -> Colour {
    [16, 8, 0].map(|shift| ((hex >> shift) & 0xff) as f32 / 255.)
}

fn mix(under: Colour, over: Colour, cover: f32) -> Colour {
    std::array::from_fn(|channel| under[channel] + cover * (over[channel] - under[channel]))
}

/// A smooth step from 0 at `from` to 1 at `to`, in either direction.
fn smooth(from: f32, to: f32, at: f32) -> f32 {
    let t = ((at - from) / (to - from)).clamp(0., 1.);
    t * t * (3. - 2. * t)
}

/// 1 where the line is above the point on screen, that is where `y` is larger.
fn above(line: f32, y: f32) -> f32 {
    smooth(line - 0.001, line + 0.001, y)
}

fn inside(x: f32, y: f32, left: f32, top: f32, right: f32, bottom: f32) -> f32 {
    f32::from((left..right).contains(&x) && (top..bottom).contains(&y))
}

fn distance(x: f32, y: f32, cx: f32, cy: f32) -> f32 {
    (x - cx).hypot(y - cy)
}

/// A jagged profile in 0..1.
fn ridge(t: f32) -> f32 {
    let saw = |t: f32| (t - t.round()).abs() * 2.;
    0.62 * saw(t * 0.37) + 0.26 * saw(t * 0.83 + 0.3) + 0.12 * saw(t * 2.1 + 0.1)
}

fn cloud(x: f32, y: f32, cx: f32, cy: f32, size: f32) -> f32 {
    let puffs = [
        (-1.1, 0.25, 0.6),
        (-0.4, -0.2, 0.85),
        (0.4, 0., 0.75),
        (1.1, 0.3, 0.55),
    ];
    let clear = puffs.map(|(dx, dy, radius)| {
        let from = distance(x, y, cx + dx * size, cy + dy * size);
        1. - smooth(radius * size, 0.75 * radius * size, from)
    });
    let flat = smooth(cy + 0.62 * size, cy + 0.5 * size, y);
    (1. - clear.into_iter().product::<f32>()) * flat
}
