//! Weights from the Hugging Face Hub, as a server on this machine plays it.

use std::fs;

use anyhow::Result;
use testing::server::{Server, part};

use crate::workshop::{Workshop, check_error, check_success};

/// The program, with what the environment tells it.
#[test]
fn stylize_takes_weights_from_the_hub() -> Result<()> {
    let shop = Workshop::new("hub-stylize")?;
    let net = fs::read(shop.0.join("net.safetensors"))?;
    let server = Server::start(move |_, request| part(&net, request))?;
    let args = [
        "--weights",
        "hf://owner/name/net.safetensors@main",
        "--input",
        "in.png",
    ];
    let run = |output: &str, offline: &str| -> Result<_> {
        let args = [&args[..], &["--output", output]].concat();
        let mut command = shop.command(&args);
        command.env("HF_ENDPOINT", format!("{}/", server.endpoint));
        command
            .env("HF_HOME", shop.0.join("hf"))
            .env("HF_TOKEN", "secret");
        command
            .env("HF_HUB_OFFLINE", offline)
            .env_remove("HF_HUB_CACHE");
        Ok(command.output()?)
    };
    check_error(
        &run("early.png", "1")?,
        &["net.safetensors is not in the cache", "offline"],
    )?;
    check_success(&run("online.png", "")?)?;
    let requests = server.requests();
    assert_eq!(requests[0].authorization.as_deref(), Some("Bearer secret"));
    check_success(&run("offline.png", "1")?)?;
    assert_eq!(server.requests(), requests);
    check_success(&shop.stylize("net.safetensors", "in.png", "local.png", &[])?)?;
    let local = fs::read(shop.0.join("local.png"))?;
    assert_eq!(fs::read(shop.0.join("online.png"))?, local);
    assert!(shop.0.join("hf/hub/models--owner--name").is_dir());
    Ok(())
}
