//! The Hugging Face Hub, through the crate `hf-hub`.
//!
//! This module guards against what version 0.5 of that crate lets through:
//!
//! - a body that ends early, and an answer to a continued download that starts over: it would keep
//!   either as the file;
//! - names from the caller or the server that lead out of the cache;
//! - a complete `.part` file: it would ask for the bytes after the end for ever;
//! - answers that make it panic.
//!
//! Two things are out of reach from here: it sends the token along when it asks the host of a
//! redirection for the size, and it has no timeouts.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use candle_core::{Error, Result, bail};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::{guarded, preferred};

/// The attempts at a download. Each continues where the last one broke off.
const ATTEMPTS: u32 = 3;

/// The pause before the second attempt; the one before the third is twice as long.
const PAUSE: Duration = Duration::from_millis(300);

/// A server of the Hugging Face Hub, and the cache for its files, which is shared with
/// `huggingface_hub` of Python.
///
/// [`Weights::open`](super::Weights::open) fetches names that start with `hf://` by
/// [`Hub::from_env`].
#[derive(Clone)]
pub struct Hub {
    /// The server: `https://huggingface.co`, or a mirror of it.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// The token for private and gated repositories.
    pub token: Option<String>,
    /// True if files come from the cache only.
    pub offline: bool,
}

/// Does not show the token, since logs may go anywhere.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "...");
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &token)
            .field("offline", &self.offline)
            .finish()
    }
}

impl Hub {
    /// The settings of the environment, by the variables of Python's `huggingface_hub`:
    /// `HF_ENDPOINT`, `HF_HUB_CACHE` or `HF_HOME`, `HF_TOKEN` or the token that a login left in
    /// `HF_HOME`, and `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    ///
    /// `HF_HOME` is not set, and there is no home folder.
    pub fn from_env() -> Result<Self> {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = guarded("the folder of the cache", Cache::from_env)?;
        let truth = |value: String| ["1", "on", "yes", "true"].contains(&&*value.to_lowercase());
        Ok(Self {
            endpoint: var("HF_ENDPOINT").unwrap_or("https://huggingface.co".into()),
            cache: var("HF_HUB_CACHE").map_or(home.path().clone(), PathBuf::from),
            token: var("HF_TOKEN").or_else(|| home.token()),
            offline: var("HF_HUB_OFFLINE").is_some_and(truth),
        })
    }

    /// Fetches `owner/name/file@revision` unless the cache has it, and returns its path there. A
    /// cached file is not asked for again: a branch stays as it was when first fetched. Without
    /// `file`, the repository must have a single file of weights at its top level; without
    /// `@revision`, the revision is `main`.
    ///
    /// # Errors
    ///
    /// The name is of another form, the server does not give the file or not all of it, or the cache
    /// does not have it when offline.
    pub fn fetch(&self, name: &str) -> Result<PathBuf> {
        let shown = format!("hf://{}", name.escape_debug());
        let (path, revision) = name.rsplit_once('@').unwrap_or((name, "main"));
        let mut parts = path.splitn(3, '/');
        let (Some(owner), Some(repo), file) = (parts.next(), parts.next(), parts.next()) else {
            bail!("{shown}: expected hf://owner/name, with /file and @revision or without")
        };
        if [Some(owner), Some(repo), Some(revision), file]
            .into_iter()
            .flatten()
            .any(|part| !is_plain(part))
        {
            bail!(
                "{shown}: a name may have letters, digits and . _ - + = only, and no part .. in it"
            )
        }
        let repo = format!("{owner}/{repo}");
        let repo = Repo::with_revision(repo, RepoType::Model, revision.to_string());
        let fetched = guarded(&shown, || match file {
            Some(file) => self.file(&repo, file),
            None => self.file(&repo, &self.only_file(&repo)?),
        });
        fetched?.map_err(|error| Error::Msg(format!("{shown}: {error}")))
    }

    fn api(&self) -> Result<Api> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.trim_end_matches('/').to_string())
            .with_token(self.token.clone())
            .with_progress(false)
            .build()
            .map_err(|error| self.explain(error))
    }

    /// The name of the only file of weights at the top level of the repository.
    fn only_file(&self, repo: &Repo) -> Result<String> {
        let names = if self.offline {
            self.cached_names(repo)?
        } else {
            let info = self.patiently(|| self.api_result(|api| api.repo(repo.clone()).info()))?;
            info.siblings
                .into_iter()
                .map(|file| file.rfilename)
                .collect()
        };
        let at_top = names
            .into_iter()
            .filter(|name| !name.contains('/') && is_plain(name));
        let mut files = preferred(at_top.map(PathBuf::from)).into_values();
        let files = files.by_ref().map(|file| file.display().to_string());
        match files.collect::<Vec<_>>().as_slice() {
            [file] => Ok(file.clone()),
            [] => {
                bail!("there is no file of weights at the top; name one, as hf://owner/name/file")
            }
            files => bail!(
                "there are several files of weights; name one of {}",
                files.join(", ")
            ),
        }
    }

    fn cached_names(&self, repo: &Repo) -> Result<Vec<String>> {
        let cache = Cache::new(self.cache.clone());
        let reference = self.cache.join(repo.folder_name()).join("refs");
        let Ok(commit) = fs::read_to_string(reference.join(repo.revision())) else {
            bail!(
                "it is not in the cache {}, and this is offline",
                self.cache.display()
            )
        };
        let folder = cache.repo(repo.clone()).pointer_path(&commit);
        let name = |file: fs::DirEntry| file.file_name().into_string().ok();
        let files = folder.read_dir()?.filter_map(|file| name(file.ok()?));
        Ok(files.collect())
    }

    fn file(&self, repo: &Repo, file: &str) -> Result<PathBuf> {
        if let Some(path) = Cache::new(self.cache.clone()).repo(repo.clone()).get(file) {
            return Ok(path);
        }
        if self.offline {
            bail!(
                "{file} is not in the cache {}, and this is offline",
                self.cache.display()
            )
        }
        self.patiently(|| self.download(repo, file))
    }

    fn download(&self, repo: &Repo, file: &str) -> std::result::Result<PathBuf, Failure> {
        let cache = Cache::new(self.cache.clone()).repo(repo.clone());
        let url = self.api()?.repo(repo.clone()).url(file);
        let metadata = self.api_result(|api| api.metadata(&url))?;
        if !is_plain(metadata.etag()) || !is_plain(metadata.commit_hash()) {
            return Err(Error::Msg("the server's etag or commit is no name".into()).into());
        }
        let blob = cache.blob_path(metadata.etag());
        let part = blob.with_extension("part");
        if part
            .metadata()
            .is_ok_and(|part| part.len() >= metadata.size() as u64)
        {
            fs::remove_file(&part).map_err(Error::from)?;
        }
        let path = self.api_result(|api| api.repo(repo.clone()).download(file))?;
        let length = path.metadata().map_err(Error::from)?.len();
        if length != metadata.size() as u64 {
            // Best effort: the error to report is the other.
            let _ = (fs::remove_file(&path), fs::remove_file(&blob));
            let message = format!("{length} bytes came, of {}", metadata.size());
            return Err(Failure {
                error: Error::Msg(message),
                passing: true,
            });
        }
        Ok(path)
    }

    fn api_result<T>(
        &self,
        ask: impl FnOnce(Api) -> std::result::Result<T, ApiError>,
    ) -> std::result::Result<T, Failure> {
        ask(self.api()?).map_err(|error| Failure {
            passing: match status(&error) {
                Some(code) => code == 429 || code >= 500,
                None => true,
            },
            error: self.explain(error),
        })
    }

    /// Repeats an attempt that fails for a reason that may pass.
    fn patiently<T>(
        &self,
        mut attempt: impl FnMut() -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let mut past = 1;
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(failure) if past == ATTEMPTS || !failure.passing => return Err(failure.error),
                Err(_) => sleep(PAUSE * past),
            }
            past += 1;
        }
    }

    fn explain(&self, error: ApiError) -> Error {
        let endpoint = &self.endpoint;
        Error::Msg(match status(&error) {
            Some(code @ (401 | 403)) => format!(
                "{endpoint} answered {code}: there is no such repository, or HF_TOKEN does not give access to it"
            ),
            Some(404) => {
                format!("{endpoint} answered 404: there is no such file, repository or revision")
            }
            Some(code) => format!("{endpoint} answered {code}"),
            None => format!("cannot fetch from {endpoint}: {error}"),
        })
    }
}

/// An error of one attempt.
struct Failure {
    error: Error,
    /// True if another attempt may succeed.
    passing: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let passing = false;
        Self { error, passing }
    }
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status(error),
        _ => None,
    }
}

/// True for one or more plain names with `/` between them, which stay below the folder that they are
/// joined to and need no escapes in a URL.
fn is_plain(name: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || "._-+=".contains(c);
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(of_name);
    name.split('/').all(part) && Path::new(name).is_relative()
}
