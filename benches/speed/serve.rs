//! Turns on request, for a program that lets several processes take turns: it reads requests from the
//! standard input, a JSON object a line, and answers each with one.
//!
//! - `{"op", "shape", "dtype", "direction"}` prepares a row and answers `{"contenders": [...]}`.
//! - `{"turn": CONTENDER, "seconds": S}` calls one of them for about so long and answers `{"ms"}`, the
//!   median time of a call.
//!
//! What fails answers `{"error"}`.

use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

use anyhow::Context;
use candle_core::Device;
use serde_json::{Value, json};

use super::job::Request;
use super::timing::{Call, median};

pub fn serve(device: &Device) -> anyhow::Result<()> {
    let mut calls: Vec<(&str, Call)> = vec![];
    for line in stdin().lock().lines() {
        let answer = answer(&line?, device, &mut calls);
        let answer = answer.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
        println!("{answer}");
        stdout().flush()?;
    }
    Ok(())
}

fn answer(
    line: &str,
    device: &Device,
    calls: &mut Vec<(&'static str, Call)>,
) -> anyhow::Result<Value> {
    let request: Value = serde_json::from_str(line)?;
    let Some(turn) = request["turn"].as_str() else {
        // The tensors of the last row make room for those of this one.
        calls.clear();
        *calls = Request::parse(&request)?.calls(device)?;
        let names: Vec<_> = calls.iter().map(|(name, _)| name).collect();
        return Ok(json!({ "contenders": names }));
    };
    let call = calls.iter().find(|(name, _)| *name == turn);
    let (_, call) = call.with_context(|| format!("{turn}: no contender of this row"))?;
    let seconds = request["seconds"]
        .as_f64()
        .context("seconds: expected a number")?;
    Ok(json!({ "ms": time(call, seconds)? * 1e3 }))
}

/// The median seconds of a call. The first fifth of the time is for caches and the allocator.
fn time(call: &Call, seconds: f64) -> anyhow::Result<f64> {
    let start = Instant::now();
    loop {
        call.run()?;
        if start.elapsed().as_secs_f64() > seconds / 5. {
            break;
        }
    }
    let mut times = vec![];
    while times.len() < 3 || start.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        call.run()?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(median(times))
}
