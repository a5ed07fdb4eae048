//! Weights from the Hugging Face Hub, as a server on this machine plays it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::common::server::{Request, Server, list, part, part_named, status, wants_data};
use anyhow::{Context, Result};
use candle_style_models::weights::Hub;

const NAME: &str = "owner/name/net.safetensors";

/// A file long enough to be cut.
fn file() -> Vec<u8> {
    (0..100_000u64).map(|i| ((i * i) >> 7) as u8).collect()
}

/// A Hub with an empty cache.
fn hub(test: &str, server: &Server) -> Result<Hub> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hub-{test}"));
    if cache.exists() {
        fs::remove_dir_all(&cache)?;
    }
    Ok(Hub {
        endpoint: server.endpoint.clone(),
        cache,
        token: None,
        offline: false,
    })
}

fn error(hub: &Hub, name: &str) -> Result<String> {
    let error = hub.fetch(name).err().context("fetched")?.to_string();
    Ok(error.lines().next().unwrap_or_default().to_string())
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?)
        } else {
            files.push(path)
        }
    }
    Ok(files)
}

#[test]
fn a_file_is_fetched_once() -> Result<()> {
    let server = Server::start(|_, request| part(&file(), request))?;
    let mut hub = hub("once", &server)?;
    hub.token = Some("secret".into());
    let path = hub.fetch("owner/name/deep/net.pth@v1.0")?;
    assert!(path.ends_with("deep/net.pth"));
    assert_eq!(fs::read(&path)?, file());
    let requests = server.requests();
    for request in &requests {
        assert_eq!(request.path, "/owner/name/resolve/v1.0/deep/net.pth");
        assert_eq!(request.authorization.as_deref(), Some("Bearer secret"));
    }
    assert_eq!(hub.fetch("owner/name/deep/net.pth@v1.0")?, path);
    assert_eq!(server.requests(), requests);

    hub.offline = true;
    assert_eq!(hub.fetch("owner/name/deep/net.pth@v1.0")?, path);
    let error = error(&hub, "owner/name/deep/net.pth")?;
    assert!(
        error.contains("not in the cache") && error.contains("offline"),
        "{error}"
    );
    assert_eq!(server.requests(), requests);
    Ok(())
}

/// A download that breaks off goes on where it was.
#[test]
fn an_interrupted_download_goes_on() -> Result<()> {
    let server = Server::start(|_, request| {
        let mut answer = part(&file(), request);
        if request.range.as_deref() == Some("bytes=0-") {
            answer.truncate(answer.len() - 40_000);
        }
        answer
    })?;
    let path = hub("goes-on", &server)?.fetch(NAME)?;
    assert_eq!(fs::read(path)?, file());
    let requests = server.requests();
    let last = requests.last().and_then(|request| request.range.clone());
    assert_eq!(last.as_deref(), Some("bytes=60000-"));
    Ok(())
}

/// An answer without a length may end early unnoticed. A file shorter than the size that the server
/// gave before is not kept.
#[test]
fn a_short_file_is_not_kept() -> Result<()> {
    let server = Server::start(|_, request| {
        let answer = part(&file(), request);
        if !wants_data(request) {
            return answer;
        }
        let text = String::from_utf8_lossy(&answer[..300]).replace("Content-Length", "X-Length");
        let head = text.find("\r\n\r\n").unwrap_or(0) + 4;
        [&text.as_bytes()[..head], &file()[..50_000]].concat()
    })?;
    let hub = hub("short", &server)?;
    let error = error(&hub, NAME)?;
    assert!(error.contains("50000 bytes came, of 100000"), "{error}");
    let left = files(&hub.cache)?;
    assert!(
        !left.iter().any(|path| path.ends_with("net.safetensors")),
        "{left:?}"
    );
    Ok(())
}

/// A server that starts over would have its file appended to the part that is there.
#[test]
fn a_download_that_starts_over_is_started_over() -> Result<()> {
    let downloads = AtomicUsize::new(0);
    let server = Server::start(move |_, request| {
        if !wants_data(request) {
            return part(&file(), request);
        }
        let start = Request {
            range: Some("bytes=0-".into()),
            ..Request::default()
        };
        let mut whole = part(&file(), &start);
        if downloads.fetch_add(1, Relaxed) == 0 {
            whole.truncate(30_000);
        }
        whole
    })?;
    // Attempts: broken off; appended, and thrown away for its length; whole.
    let path = hub("starts-over", &server)?.fetch(NAME)?;
    assert_eq!(fs::read(path)?, file());
    Ok(())
}

/// A process that ended between the last byte and the renaming of the file leaves a whole part.
#[test]
fn a_whole_part_does_not_block() -> Result<()> {
    let server = Server::start(|_, request| part(&file(), request))?;
    let hub = hub("whole-part", &server)?;
    let blobs = hub.cache.join("models--owner--name/blobs");
    fs::create_dir_all(&blobs)?;
    fs::write(blobs.join("e7a9.part"), file())?;
    assert_eq!(fs::read(hub.fetch(NAME)?)?, file());
    Ok(())
}

#[test]
fn what_passes_is_tried_again() -> Result<()> {
    let server = Server::start(|count, request| match count {
        0 => status(503),
        1 => status(429),
        _ => part(&file(), request),
    })?;
    assert_eq!(fs::read(hub("passes", &server)?.fetch(NAME)?)?, file());
    Ok(())
}

#[test]
fn refusals_say_what_to_do() -> Result<()> {
    for (code, expected, attempts) in [
        (401, "HF_TOKEN", 1),
        (403, "HF_TOKEN", 1),
        (404, "no such file", 1),
        (500, "answered 500", 3),
        (503, "answered 503", 3),
    ] {
        let server = Server::start(move |_, _| status(code))?;
        let hub = hub("refusals", &server)?;
        for name in [NAME, "owner/name"] {
            let error = error(&hub, name)?;
            let start = format!("hf://{name}: {} answered {code}", server.endpoint);
            assert!(
                error.starts_with(&start) && error.contains(expected),
                "{error}"
            );
        }
        assert_eq!(server.requests().len(), 2 * attempts, "{code}");
        assert!(files(&hub.cache)?.is_empty());
    }
    let gone = Server::start(|_, _| Vec::new())?;
    let error = error(&hub("gone", &gone)?, NAME)?;
    assert!(
        error.contains("cannot fetch from http://127.0.0.1"),
        "{error}"
    );
    Ok(())
}

/// Answers that would lead out of the cache, or that `hf-hub` panics on.
#[test]
fn a_hostile_server_gets_nowhere() -> Result<()> {
    let server = Server::start(|_, request| part_named(&file(), request, "../../../../evil"))?;
    let hub = self::hub("hostile", &server)?;
    let error = self::error(&hub, NAME)?;
    assert!(error.contains("is no name"), "{error}");
    assert!(files(&hub.cache)?.is_empty());

    let redirect = "HTTP/1.1 302 Found\r\nX-Repo-Commit: c0ffee\r\nETag: \"e\"\r\n\
                    Content-Length: 0\r\nConnection: close\r\n\r\n";
    let server = Server::start(|_, _| redirect.as_bytes().to_vec())?;
    let hub = self::hub("nowhere", &server)?;
    assert!(!self::error(&hub, NAME)?.is_empty());

    let server = Server::start(|_, _| list(&["../../net.pth", "/etc/net.pth"]))?;
    let error = self::error(&self::hub("names", &server)?, "owner/name")?;
    assert!(error.contains("no file of weights"), "{error}");
    Ok(())
}

#[test]
fn the_only_file_needs_no_name() -> Result<()> {
    let serve = |names: &'static [&'static str]| {
        Server::start(move |_, request| {
            if request.path.starts_with("/api/models/owner/name/") {
                list(names)
            } else {
                part(&file(), request)
            }
        })
    };
    let server = serve(&["README.md", "net.bin", "net.safetensors", "old/net.pth"])?;
    let mut hub = hub("only", &server)?;
    let path = hub.fetch("owner/name@dev")?;
    assert!(path.ends_with("net.safetensors"));
    assert_eq!(
        server.requests()[0].path,
        "/api/models/owner/name/revision/dev"
    );
    hub.offline = true;
    assert_eq!(hub.fetch("owner/name@dev")?, path);
    let missing = error(&hub, "owner/name")?;
    assert!(missing.contains("this is offline"), "{missing}");

    let server = serve(&["candy.pth", "mosaic.pth"])?;
    let several = error(&self::hub("several", &server)?, "owner/name")?;
    assert!(
        several.contains("name one of candy.pth, mosaic.pth"),
        "{several}"
    );
    Ok(())
}

#[test]
fn the_token_is_not_in_debug_output() {
    let mut hub = Hub::from_env().expect("a home folder");
    for token in [None, Some("secret".to_string())] {
        hub.token = token.clone();
        let shown = format!("{hub:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(shown.contains("token: None"), token.is_none(), "{shown}");
    }
}

/// Files of the Hub lie elsewhere; the token stays at home on the way to their bytes.
#[test]
fn redirections_are_followed() -> Result<()> {
    let store = Server::start(|_, request| part(&file(), request))?;
    let location = format!(
        "{}/store/e7a9",
        store.endpoint.replace("127.0.0.1", "localhost")
    );
    let server = Server::start(move |_, _| {
        let head = "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\n";
        let linked = "X-Linked-Etag: \"e7a9\"\r\nX-Repo-Commit: c0ffee\r\n";
        format!("{head}{linked}Location: {location}\r\n\r\n").into_bytes()
    })?;
    let mut hub = hub("redirections", &server)?;
    hub.token = Some("secret".into());
    assert_eq!(fs::read(hub.fetch(NAME)?)?, file());
    let data = store.requests().into_iter().filter(wants_data);
    for request in data {
        assert_eq!(request.authorization, None);
    }
    Ok(())
}
