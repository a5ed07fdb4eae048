//! A case of the goldens of the family, and the call that its arguments stand for.

use crate::common::{Goldens, dtype, to_f64};
use anyhow::Result;
use candle_core::{DType, Device, Module, ModuleT, Tensor, Var};
use candle_instance_norm::nn::{BatchInstanceNormConfig, ParamFreeNorm, SpadeConfig, StyleTables};
use candle_instance_norm::{
    Activation, AdaInConfig, AdaptiveConfig, EpsMode, Normalization, PlaneStats, StyleOrder, adain,
    adain_mix, adaptive_instance_norm, group_norm, instance_norm_with_stats, instance_stats, nn,
};
use candle_nn::VarBuilder;
use serde_json::Value;
use std::collections::HashMap;

/// A case: its arguments, and its inputs as variables.
pub struct Case<'a> {
    pub name: &'a str,
    pub device: &'a Device,
    pub vars: HashMap<String, Var>,
    args: &'a Value,
    /// The state dict of a layer.
    state: HashMap<String, Tensor>,
}

/// The result of a case, and the running statistics of a layer.
pub struct Got {
    pub y: Tensor,
    pub running: Vec<(&'static str, Tensor)>,
}

impl From<Tensor> for Got {
    fn from(y: Tensor) -> Self {
        let running = vec![];
        Self { y, running }
    }
}

impl<'a> Case<'a> {
    pub fn new(goldens: &Goldens, args: &'a Value, device: &'a Device) -> Result<Self> {
        let name = args["name"].as_str().expect("a name");
        let (mut vars, mut state) = (HashMap::new(), HashMap::new());
        let results = ["y", "dy", "d.", "after.", "u."];
        for (key, t) in goldens.below_case(name) {
            if results
                .iter()
                .any(|s| key == *s || (s.ends_with('.') && key.starts_with(s)))
            {
                continue;
            }
            let var = Var::from_tensor(&t)?;
            if let Some(key) = key.strip_prefix("state.") {
                state.insert(key.to_string(), var.as_tensor().clone());
            }
            vars.insert(key, var);
        }
        Ok(Self {
            args,
            name,
            vars,
            state,
            device,
        })
    }

    fn get(&self, key: &str) -> Option<&Tensor> {
        self.vars.get(key).map(|v| v.as_tensor())
    }

    fn x(&self) -> &Tensor {
        self.get("x").expect("x")
    }

    fn number(&self, key: &str, default: f64) -> f64 {
        self.args[key].as_f64().unwrap_or(default)
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.args[key].as_bool().unwrap_or(default)
    }

    fn text(&self, key: &str) -> &str {
        self.args[key].as_str().unwrap_or("")
    }

    fn eps(&self) -> f64 {
        self.number("eps", 1e-5)
    }

    fn eps_mode(&self) -> EpsMode {
        match self.text("mode") {
            "" => EpsMode::AddToVar,
            "add_to_std" => EpsMode::AddToStd,
            "max_with_var" => EpsMode::MaxWithVar,
            other => panic!("{other}"),
        }
    }

    fn activation(&self) -> Activation {
        match self.text("activation") {
            "" => Activation::None,
            "relu" => Activation::Relu,
            "leaky_relu" => Activation::LeakyRelu(0.2),
            "silu" => Activation::Silu,
            other => panic!("{other}"),
        }
    }

    /// The variables of a layer: the builder hands out the very tensors it is given.
    fn vb(&self) -> VarBuilder<'static> {
        let dtype = dtype(self.args, "dtype");
        VarBuilder::from_tensors(self.state.clone(), dtype, self.device)
    }

    pub fn run(&self) -> Result<Got> {
        match self.text("op") {
            "adain" => self.adain(),
            "norm" => self.norm(),
            "stats" => {
                let PlaneStats { mean, rstd } = instance_stats(self.x(), self.eps())?;
                Ok(Tensor::stack(&[mean, rstd], 0)?.into())
            }
            "adaptive" | "adaptive_layer" => self.adaptive(),
            "conditional" => self.conditional(),
            "spade" => self.spade(),
            "batch_instance_norm" => self.batch_instance_norm(),
            other => panic!("{other}"),
        }
    }

    fn adain(&self) -> Result<Got> {
        let config = AdaInConfig {
            correction: self.number("correction", 1.) as u32,
            eps: self.eps(),
            eps_mode: self.eps_mode(),
            alpha: self.number("alpha", 1.),
        };
        let style = |k: usize| self.get(&format!("style{k}")).expect("a style");
        let Some(shares) = self.args["shares"].as_array() else {
            return Ok(adain(self.x(), style(0), &config)?.into());
        };
        let shares = shares.iter().map(|s| s.as_f64().expect("a share"));
        let styles: Vec<_> = shares.enumerate().map(|(k, s)| (style(k), s)).collect();
        Ok(adain_mix(self.x(), &styles, &config)?.into())
    }

    fn norm(&self) -> Result<Got> {
        let (x, groups) = (self.x(), self.args["groups"].as_u64().unwrap_or(0) as usize);
        let (weight, bias) = (self.get("weight"), self.get("bias"));
        let mut norm = match groups {
            0 => Normalization::instance(self.eps()),
            groups => Normalization::group(groups, self.eps()),
        };
        norm = norm.eps_mode(self.eps_mode()).activation(self.activation());
        if self.number("offset", 0.) == 1. {
            norm = norm.one_plus_weight();
        }
        for (key, set) in [
            (
                "weight",
                Normalization::weight as fn(Normalization, &Tensor) -> Normalization,
            ),
            ("bias", Normalization::bias),
            ("residual", Normalization::residual),
        ] {
            if let Some(t) = self.get(key) {
                norm = set(norm, t);
            }
        }
        let given = self.get("mean").cloned().zip(self.get("rstd").cloned());
        let given = given.map(|(mean, rstd)| PlaneStats { mean, rstd });
        if let Some(stats) = &given {
            norm = norm.stats(stats);
        }
        let y = norm.forward(x)?;
        // The shorter ways to the same.
        let bare = self.activation() == Activation::None && self.get("residual").is_none();
        if let (Some(stats), true) = (&given, bare) {
            same(
                self.name,
                &instance_norm_with_stats(x, stats, weight, bias)?,
                &y,
            );
        }
        if groups > 0 && bare {
            same(
                self.name,
                &group_norm(x, groups, weight, bias, self.eps())?,
                &y,
            );
        }
        let per_channel = |t: Option<&Tensor>| t.filter(|t| t.rank() == 1).cloned();
        if let (Some(w), Some(b), true) = (per_channel(weight), per_channel(bias), groups > 0) {
            let layer = nn::GroupNorm::new(w, b, x.dim(1)?, groups, self.eps())?;
            let layer = layer.with_activation(self.activation());
            same(self.name, &layer.forward(x)?, &y);
        }
        Ok(y.into())
    }

    fn adaptive(&self) -> Result<Got> {
        let config = AdaptiveConfig {
            eps: self.eps(),
            one_plus_weight: self.flag("one_plus", true),
            order: match self.text("order") {
                "" | "scale_shift" => StyleOrder::WeightBias,
                "shift_scale" => StyleOrder::BiasWeight,
                other => panic!("{other}"),
            },
        };
        for (name, named) in [
            ("stylegan", AdaptiveConfig::stylegan()),
            ("stargan_v2", AdaptiveConfig::stargan_v2()),
            ("styletts2", AdaptiveConfig::stargan_v2()),
            ("kokoro", AdaptiveConfig::stargan_v2()),
            ("munit", AdaptiveConfig::munit()),
        ] {
            if self.name.starts_with(name) {
                assert_eq!(config, named, "{name}");
            }
        }
        let (x, style) = (self.x(), self.get("style").expect("a style"));
        if self.text("op") == "adaptive" {
            return Ok(adaptive_instance_norm(x, style, &config)?.into());
        }
        let layer = nn::adaptive_instance_norm(style.dim(1)?, x.dim(1)?, config, self.vb())?;
        let layer = layer.with_optional_affine(self.vb().pp("norm"))?;
        Ok(layer.forward(x, style)?.into())
    }

    fn conditional(&self) -> Result<Got> {
        let tables = match self.text("tables") {
            "gamma_beta" => StyleTables::GammaBeta,
            "embedding" => StyleTables::Embedding,
            "module_list" => StyleTables::ModuleList,
            other => panic!("{other}"),
        };
        let (x, styles) = (
            self.x(),
            self.args["styles"].as_u64().expect("styles") as usize,
        );
        let layer =
            nn::conditional_instance_norm(styles, x.dim(1)?, self.eps(), tables, self.vb())?;
        if let Some(weights) = self.get("weights") {
            return Ok(layer.forward_mix(x, weights)?.into());
        }
        let ids = self.args["ids"].as_array().expect("ids");
        let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let ids = Tensor::new(ids, self.device)?;
        let y = layer.forward(x, &ids)?;
        same(
            self.name,
            &layer.forward(x, &ids.to_dtype(DType::I64)?)?,
            &y,
        );
        Ok(y.into())
    }

    fn spade(&self) -> Result<Got> {
        let (x, labels) = (self.x(), self.get("labels").expect("labels"));
        let norm = match self.text("norm") {
            "" => ParamFreeNorm::Instance,
            "batch" => ParamFreeNorm::Batch,
            other => panic!("{other}"),
        };
        let config = SpadeConfig {
            hidden: self.state["mlp_shared.0.bias"].dim(0)?,
            hidden_activation: match self.number("slope", 0.) {
                0. => Activation::Relu,
                slope => Activation::LeakyRelu(slope),
            },
            ..SpadeConfig::new(norm)
        };
        let layer = nn::spade(x.dim(1)?, labels.dim(1)?, config, self.vb())?;
        let y = layer.forward_t(x, labels, self.flag("train", false))?;
        let running = ["running_mean", "running_var"];
        let kept = |key| {
            Some((
                key,
                self.get(&format!("state.param_free_norm.{key}"))?.clone(),
            ))
        };
        let running = running.into_iter().filter_map(kept).collect();
        Ok(Got { y, running })
    }

    fn batch_instance_norm(&self) -> Result<Got> {
        let config = BatchInstanceNormConfig {
            momentum: self.number("momentum", 0.1),
            affine: self.get("state.weight").is_some(),
            ..Default::default()
        };
        let layer = nn::batch_instance_norm(self.x().dim(1)?, config, self.vb())?;
        let y = layer.forward_t(self.x(), self.flag("train", true))?;
        let running = vec![
            ("running_mean", layer.running_mean().clone()),
            ("running_var", layer.running_var().clone()),
        ];
        Ok(Got { y, running })
    }
}

/// Panics unless both have the same bits.
#[track_caller]
fn same(what: &str, a: &Tensor, b: &Tensor) {
    assert_eq!(to_f64(a), to_f64(b), "{what}");
}
