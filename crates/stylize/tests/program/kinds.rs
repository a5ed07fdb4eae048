//! `stylize` with networks that take more than a picture, or something else.

use std::fs;

use crate::workshop::{Workshop, check_error, check_success};
use anyhow::Result;
use candle_core::{DType, Device, Tensor, safetensors};
use candle_instance_norm::nn::ParamFreeNorm;
use candle_style_models::weights::Weights;
use candle_style_models::{SpadeGenerator, SpadeGeneratorConfig, StarGanV2};
use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage, imageops};
use testing::golden;
use testing::stargan_v2_checkpoint;

/// The byte of a value from -1 to 1.
fn signed(image: &RgbImage) -> Result<Tensor> {
    let shape = (1, image.height() as usize, image.width() as usize, 3);
    let x = Tensor::from_slice(image.as_raw(), shape, &Device::Cpu)?;
    let x = x.to_dtype(DType::F32)?.permute((0, 3, 1, 2))?;
    Ok(((x / 127.5)? - 1.)?.contiguous()?)
}

/// The picture equals the library's output up to rounding.
#[track_caller]
fn check_picture(image: &RgbImage, y: &Tensor) -> Result<()> {
    let y = ((y.clamp(-1., 1.)? + 1.)? * 127.5)?.permute((0, 2, 3, 1))?;
    let bytes = y.flatten_all()?.to_vec1::<f32>()?;
    assert_eq!(image.len(), bytes.len());
    for (&byte, exact) in image.iter().zip(bytes) {
        assert!((f32::from(byte) - exact).abs() < 1.1, "{byte} for {exact}");
    }
    Ok(())
}

/// A network of several files, as they are published, that takes its style from pictures.
#[test]
fn styles_come_from_pictures() -> Result<()> {
    let shop = Workshop::new("styles")?;
    let mut golden = safetensors::load(golden("microast.safetensors"), &Device::Cpu)?;
    // Its outputs go far beyond black and white.
    for (name, scale, shift) in [("weight", 0.02, 0.), ("bias", 0., 0.5)] {
        let name = format!("decoder.dec3.10.conv_layer.{name}");
        let tensor = golden[&name].affine(scale, shift)?;
        golden.insert(name, tensor);
    }
    fs::create_dir(shop.0.join("microast"))?;
    for file in ["content_encoder", "style_encoder", "modulator", "decoder"] {
        let prefix = format!("{file}.");
        let part = |(name, tensor): (&String, &Tensor)| {
            Some((name.strip_prefix(&prefix)?.to_string(), tensor.clone()))
        };
        let part = golden.iter().filter_map(part).collect();
        let path = format!("microast/{file}_iter_160000.pth.tar");
        safetensors::save(&part, shop.0.join(path))?;
    }
    let grey = RgbImage::from_fn(30, 20, |x, y| Rgb([(7 * x + 2 * y) as u8; 3]));
    grey.save(shop.0.join("grey.png"))?;
    let stylize = |output: &str, rest: &[&str]| -> Result<RgbImage> {
        check_success(&shop.stylize("microast", "in.png", output, rest)?)?;
        shop.picture(output)
    };
    let one = stylize("one.png", &["--style", "grey.png"])?;
    assert_eq!(one.dimensions(), (23, 18));
    let own = stylize("own.png", &["--style", "in.png"])?;
    assert_ne!(one, own);
    let both = ["--style", "grey.png", "--style", "in.png"];
    let first = ["--style-weight", "3", "--style-weight", "0"];
    assert_eq!(stylize("first.png", &[both, first].concat())?, one);
    let mixed = stylize("mixed.png", &both)?;
    assert!(mixed != one && mixed != own);
    assert_ne!(
        stylize("half.png", &["--style", "grey.png", "--alpha", "0.5"])?,
        one
    );

    let rows = [
        "--style", "grey.png", "--style", "in.png", "--alpha", "0.5", "1",
    ];
    let sheet = [
        "--weights",
        "microast",
        "--input",
        "in.png",
        "--gallery",
        "sheet.png",
    ];
    let line = check_success(&shop.run(&[&sheet[..], &rows].concat())?)?;
    assert!(line.contains("sheet.png: 8 pictures in "), "{line}");
    let sheet = shop.picture("sheet.png")?;
    // Below the first row, which is as high as the style.
    let y = 8 + 15 + 20 + 8 + 15;
    let cell = imageops::crop_imm(&sheet, 4 * 8 + 23 + 30 + 23, y, 23, 18);
    assert_eq!(cell.to_image(), own);

    let none = shop.stylize("microast", "in.png", "none.png", &[])?;
    check_error(&none, &["give --style"])
}

/// A checkpoint of narrow networks for animals of 64x64 pixels, in three domains.
fn animals(shop: &Workshop) -> Result<StarGanV2> {
    let golden = safetensors::load(golden("stargan_v2.safetensors"), &Device::Cpu)?;
    let mut tensors = stargan_v2_checkpoint(&golden, 2);
    // The last layer of random networks goes far beyond black and white.
    let last = "generator.to_rgb.2.weight";
    tensors.insert(last.into(), (&tensors[last] * 0.2)?);
    safetensors::save(&tensors, shop.0.join("nets.ckpt"))?;
    let weights = Weights::open(shop.0.join("nets.ckpt"))?;
    Ok(weights.build(DType::F32, &Device::Cpu, StarGanV2::new)?)
}

#[test]
fn domains_and_styles() -> Result<()> {
    let shop = Workshop::new("domains")?;
    let networks = animals(&shop)?;
    let picture = |name: &str, side: (u32, u32), step: u32| -> Result<RgbImage> {
        let value = |x: u32, y: u32| ((step * x + 5 * y) % 256) as u8;
        let image = RgbImage::from_fn(side.0, side.1, |x, y| Rgb([value(x, y), value(y, x), 90]));
        image.save(shop.0.join(name))?;
        Ok(image)
    };
    let cat = picture("cat.png", (24, 20), 9)?;
    let dog = picture("dog.png", (100, 70), 3)?;
    picture("wolf.png", (64, 64), 7)?;
    let stylize = |output: &str, rest: &[&str]| -> Result<RgbImage> {
        check_success(&shop.stylize("nets.ckpt", "cat.png", output, rest)?)?;
        shop.picture(output)
    };

    // The library's result for the same input, at the size of the encoder's pictures.
    let styled = stylize("styled.png", &["--domain", "1", "--style", "dog.png"])?;
    let dog = imageops::resize(&dog, 64, 64, imageops::FilterType::Triangle);
    let style = networks.style_encoder.forward(&signed(&dog)?, &[1])?;
    let y = networks.generator.forward(&signed(&cat)?, &style)?;
    check_picture(&styled, &y)?;

    // Without a style, one of the domain's, by its seed.
    let one = stylize("one.png", &["--domain", "1"])?;
    assert_eq!(
        stylize("again.png", &["--domain", "1", "--seed", "1"])?,
        one
    );
    for other in [&["--domain", "1", "--seed", "2"][..], &["--domain", "2"]] {
        assert_ne!(stylize("other.png", other)?, one);
    }
    assert_ne!(one, styled);

    // Two styles, each of its domain.
    let both = [
        "--style", "dog.png", "--style", "wolf.png", "--domain", "1", "--domain", "2",
    ];
    let first = ["--style-weight", "3", "--style-weight", "0"];
    assert_eq!(stylize("first.png", &[&both[..], &first].concat())?, styled);
    let second = ["--style-weight", "0", "--style-weight", "1"];
    let wolf = stylize("second.png", &[&both[..], &second].concat())?;
    let of_wolf = ["--style", "wolf.png", "--domain", "2"];
    assert_eq!(stylize("wolf.png.png", &of_wolf)?, wolf);
    let mixed = stylize("mixed.png", &both)?;
    assert!(mixed != styled && mixed != wolf);

    // Any size, any degree, and in tiles.
    assert_eq!(
        stylize("none.png", &["--domain", "0", "--alpha", "0"])?,
        cat
    );
    let tiles = [
        "--weights",
        "nets.ckpt",
        "--input",
        "dog.png",
        "--output",
        "tiled.png",
    ];
    let rest = ["--domain", "0", "--tile", "32"];
    check_success(&shop.run(&[&tiles[..], &rest].concat())?)?;
    assert_eq!(shop.picture("tiled.png")?.dimensions(), (100, 70));
    let gallery = [
        "--weights",
        "nets.ckpt",
        "--input",
        "cat.png",
        "--gallery",
        "all.png",
    ];
    let line = check_success(&shop.run(&[&gallery[..], &both, &["--alpha", "1"]].concat())?)?;
    assert!(line.contains("all.png: 6 pictures in "), "{line}");
    let sheet = shop.picture("all.png")?;
    let last = imageops::crop_imm(&sheet, sheet.width() - 8 - 24, 8 + 15 + 70 + 8 + 15, 24, 20);
    assert_eq!(last.to_image(), wolf);

    for (rest, parts) in [
        (&[][..], ["by domains", "give --domain, from 0 to 2"]),
        (&["--domain", "3"], ["by domains", "from 0 to 2"]),
        (
            &["--domain", "0", "--domain", "1"],
            ["one --domain, or as many as --style", "got 2 and 0"],
        ),
        (
            &["--domain", "0", "--labels", "coco"],
            ["by domains", "--labels does not apply"],
        ),
    ] {
        check_error(
            &shop.stylize("nets.ckpt", "cat.png", "no.png", rest)?,
            &parts,
        )?;
    }
    let own = shop.stylize("net.safetensors", "cat.png", "no.png", &["--domain", "0"])?;
    check_error(&own, &["in its weights", "--domain does not apply"])
}

/// Saves one of the golden's networks, which have three channels of labels; the one with batch norm
/// doubles the sides seven times, the other five times.
fn gaugan(shop: &Workshop, name: &str, config: SpadeGeneratorConfig) -> Result<SpadeGenerator> {
    let tensors = safetensors::load(golden("spade_generator.safetensors"), &Device::Cpu)?;
    let prefix = format!("{name}.net.");
    let ours = tensors
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_string(), tensor)));
    let path = shop.0.join(format!("{name}.safetensors"));
    safetensors::save(&ours.collect(), &path)?;
    let weights = Weights::open(path)?;
    let build = |vb| SpadeGenerator::new(config, vb);
    Ok(weights.build(DType::F32, &Device::Cpu, build)?)
}

/// `(1, C, H, W)`: channel c is 1 where `is` says so.
fn one_hot((width, height): (u32, u32), is: impl Fn(u32, u32, u32) -> bool) -> Result<Tensor> {
    let mut values = Vec::new();
    for channel in 0..3 {
        for y in 0..height {
            values.extend((0..width).map(|x| f32::from(is(channel, x, y))));
        }
    }
    let shape = (1, 3, height as usize, width as usize);
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

#[test]
fn maps_of_labels() -> Result<()> {
    let shop = Workshop::new("maps")?;
    let batch = SpadeGeneratorConfig {
        norm: ParamFreeNorm::Batch,
        doublings: 7,
    };
    let instance = SpadeGeneratorConfig {
        norm: ParamFreeNorm::Instance,
        doublings: 5,
    };
    let label = |x: u32, y: u32| u32::from(x > 40) + u32::from(x > 40 && y > 50);
    let size = (128, 128);
    let map = GrayImage::from_fn(size.0, size.1, |x, y| Luma([label(x, y) as u8]));
    map.save(shop.0.join("map.png"))?;
    let stylize = |weights: &str, output: &str, rest: &[&str]| -> Result<RgbImage> {
        check_success(&shop.stylize(weights, "map.png", output, rest)?)?;
        shop.picture(output)
    };
    let of_labels = one_hot(size, |channel, x, y| label(x, y) == channel)?;
    for (name, config) in [("batch", batch), ("instance", instance)] {
        let network = gaugan(&shop, name, config)?;
        let picture = stylize(&format!("{name}.safetensors"), "out.png", &[])?;
        check_picture(&picture, &network.forward(&of_labels)?)?;
    }

    // Edges in the last channel: of the labels, and of things that are told apart.
    const NET: &str = "instance.safetensors";
    let network = gaugan(&shop, "instance", instance)?;
    let two = GrayImage::from_fn(size.0, size.1, |x, _| Luma([u8::from(x > 40)]));
    two.save(shop.0.join("map.png"))?;
    let with_edges = |thing: fn(u32, u32) -> bool| {
        let is_edge = move |x: u32, y: u32| {
            let beside = [(x + 1, y), (x.max(1) - 1, y), (x, y + 1), (x, y.max(1) - 1)];
            let inside = beside.iter().filter(|(x, y)| x.max(y) < &128);
            inside.into_iter().any(|&(u, v)| thing(u, v) != thing(x, y))
        };
        one_hot(size, move |channel, x, y| match channel {
            2 => is_edge(x, y),
            channel => u32::from(x > 40) == channel,
        })
    };
    let cityscapes = ["--labels", "cityscapes"];
    let picture = stylize(NET, "edges.png", &cityscapes)?;
    check_picture(&picture, &network.forward(&with_edges(|x, _| x > 40)?)?)?;
    let things = ImageBuffer::from_fn(size.0, size.1, |_, y| Luma([u16::from(y > 90) * 1000]));
    fs::create_dir(shop.0.join("things"))?;
    things.save(shop.0.join("things/map.png"))?;
    for things in ["things", "things/map.png"] {
        let rest = [&cityscapes[..], &["--instances", things]].concat();
        let picture = stylize(NET, "things.png", &rest)?;
        check_picture(&picture, &network.forward(&with_edges(|_, y| y > 90)?)?)?;
    }

    // Labels stay labels where the map is reduced, is no multiple of what the network needs, or is
    // larger than a tile.
    let image = stylize(NET, "small.png", &["--max-size", "50"])?;
    assert_eq!(image.dimensions(), (50, 50));
    assert_eq!(
        stylize(NET, "tiled.png", &["--tile", "64"])?.dimensions(),
        size
    );
    assert_ne!(
        stylize(NET, "more.png", &["--upsampling", "more"])?,
        stylize(NET, "5.png", &[])?
    );

    map.save(shop.0.join("map.png"))?;
    shop.picture("in.png")?.save(shop.0.join("colours.png"))?;
    GrayImage::new(9, 9).save(shop.0.join("tiny.png"))?;
    for (input, rest, parts) in [
        ("colours.png", &[][..], ["colours.png", "in shades of grey"]),
        (
            "map.png",
            &["--labels", "cityscapes"],
            ["label 2 at (41, 51)", "3 channels"],
        ),
        (
            "map.png",
            &["--instances", "tiny.png"],
            ["tiny.png", "as large as the map"],
        ),
        (
            "map.png",
            &["--instances", "no.png"],
            ["no.png", "cannot read"],
        ),
        ("tiny.png", &[], ["tiny.png", "too small"]),
        ("map.png", &["--upsampling", "most"], [NET, "missing up_4"]),
        (
            "map.png",
            &["--alpha", "0.5"],
            ["a map of labels", "--alpha does not apply"],
        ),
        (
            "map.png",
            &["--style", "in.png"],
            ["a map of labels", "--style does not apply"],
        ),
        (
            "map.png",
            &["--preserve-color"],
            ["a map of labels", "--preserve-color"],
        ),
        ("map.png", &["--labels", "voc"], ["--labels", "ade20k"]),
    ] {
        check_error(&shop.stylize(NET, input, "no.png", rest)?, &parts)?;
    }
    let gallery = [
        "--weights",
        NET,
        "--input",
        "map.png",
        "--gallery",
        "all.png",
    ];
    check_error(
        &shop.run(&gallery)?,
        &["a map of labels", "--gallery does not apply"],
    )
}
