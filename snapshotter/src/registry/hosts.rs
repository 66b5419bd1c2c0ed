//! Who may serve an image: the mirrors of a `certs.d` folder in their order, then the registry itself.
//!
//! The files are containerd's (`hosts.toml`). What they can say and this client cannot do is an error and not ignored. The
//! order is only told here; which source is asked for which bytes is decided elsewhere.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use toml::Spanned;

use super::PlainHttp;
use super::authorization::Target;
use super::error::{Cause, FetchError};
use super::origin::{Location, Origin, Scheme, percent_encoded};
use crate::image::Reference;

/// One host that may serve the blobs of a registry's repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) origin: Origin,
    /// Certificates to trust at this host beside the usual ones.
    pub(super) certificates: Vec<PathBuf>,
    /// Whether this is the registry itself, to which explicit credentials belong.
    pub(super) own: bool,
    /// Whether its tags may be believed.
    pub(super) resolves: bool,
    /// What comes before the repository, `/v2` nearly always.
    prefix: String,
    /// The registry a mirror stands in for, told to it with each request.
    namespace: Option<String>,
}

/// The sources of all registries, read from their files when first asked for.
pub(super) struct Hosts {
    folder: Option<PathBuf>,
    plain_http: PlainHttp,
    known: Mutex<HashMap<String, Arc<[Source]>>>,
}

impl Source {
    /// The location of a repository's blob or manifest.
    pub(super) fn location(&self, repository: &str, kind: &str, name: &str) -> Option<Location> {
        let namespace = self
            .namespace
            .as_ref()
            .map(|domain| format!("?ns={}", percent_encoded(domain)));
        let path = format!(
            "{}/{repository}/{kind}/{name}{}",
            self.prefix,
            namespace.unwrap_or_default()
        );
        Location::new(self.origin.clone(), &path)
    }

    /// Whom credentials for a repository are needed for.
    pub(super) fn target<'a>(&'a self, repository: &'a str) -> Target<'a> {
        Target {
            registry: &self.origin,
            repository,
            own: self.own,
        }
    }
}

impl Hosts {
    pub(super) fn new(folder: Option<PathBuf>, plain_http: PlainHttp) -> Self {
        Self {
            folder,
            plain_http,
            known: Mutex::new(HashMap::new()),
        }
    }

    /// The sources of a reference, the registry itself last; never empty.
    pub(super) fn sources(&self, reference: &Reference) -> Result<Arc<[Source]>, FetchError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sources) = known.get(reference.domain()) {
            return Ok(Arc::clone(sources));
        }
        let sources: Arc<[Source]> = self
            .read(reference)
            .map_err(|message| FetchError::new(reference.traffic_host(), Cause::Hosts(message)))?
            .into();
        known.insert(reference.domain().to_owned(), Arc::clone(&sources));
        Ok(sources)
    }

    fn read(&self, reference: &Reference) -> Result<Vec<Source>, String> {
        let default = self
            .origin(reference.traffic_host())
            .ok_or_else(|| "the registry's name is not a host name".to_owned())?;
        let Some((path, text)) = self.file(reference.domain())? else {
            return Ok(vec![registry_itself(default)]);
        };
        let file: File = toml::from_str(&text)
            .map_err(|error| format!("{} is malformed: {}", path.display(), error.message()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        self.interpret(file, folder, reference.domain(), default)
            .map_err(|message| format!("{}: {message}", path.display()))
    }

    /// The first of the files containerd would look at that exists.
    fn file(&self, domain: &str) -> Result<Option<(PathBuf, String)>, String> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let escaped = domain
            .split_once(':')
            .map(|(host, port)| format!("{host}_{port}_"));
        for name in [
            Some(domain.to_owned()),
            escaped,
            Some("_default".to_owned()),
        ]
        .into_iter()
        .flatten()
        {
            let path = folder.join(name).join("hosts.toml");
            match std::fs::read_to_string(&path) {
                Ok(text) => return Ok(Some((path, text))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
            }
        }
        Ok(None)
    }

    fn interpret(
        &self,
        file: File,
        folder: &Path,
        domain: &str,
        default: Origin,
    ) -> Result<Vec<Source>, String> {
        let mut hosts: Vec<_> = file.hosts.into_iter().collect();
        hosts.sort_by_key(|(url, _)| url.span().start);
        let mut sources = Vec::new();
        for (url, host) in hosts {
            let mut source = self.source(url.get_ref(), &host, folder)?;
            source.own = source.origin == default;
            source.namespace = (!source.own).then(|| domain.to_owned());
            if host.may("pull") {
                sources.push(source);
            }
        }
        let mut own = match &file.server {
            Some(url) => self.source(url, &file.own, folder)?,
            None => Source {
                certificates: file.own.certificates(folder)?,
                ..registry_itself(default)
            },
        };
        own.own = true;
        sources.push(own);
        Ok(sources)
    }

    fn source(&self, url: &str, host: &Host, folder: &Path) -> Result<Source, String> {
        let unusable = || format!("{url:?} is not the address of a host");
        let location = if url.contains("://") {
            Location::parse(url).ok_or_else(unusable)?
        } else {
            let (authority, path) = url.split_at(url.find('/').unwrap_or(url.len()));
            let origin = self.origin(authority).ok_or_else(unusable)?;
            Location::new(origin, if path.is_empty() { "/" } else { path }).ok_or_else(unusable)?
        };
        let path = location.path.path().trim_end_matches('/');
        let prefix = if host.override_path || path.ends_with("/v2") {
            path.to_owned()
        } else {
            format!("{path}/v2")
        };
        Ok(Source {
            origin: location.origin,
            certificates: host.certificates(folder)?,
            own: false,
            resolves: host.may("resolve"),
            prefix,
            namespace: None,
        })
    }

    /// The origin of a host that is named without a scheme.
    fn origin(&self, authority: &str) -> Option<Origin> {
        let secure = Origin::parse(Scheme::Https, authority)?;
        let plain = match self.plain_http {
            PlainHttp::Never => false,
            PlainHttp::Loopback => secure.is_loopback(),
            PlainHttp::Always => true,
        };
        if plain {
            Origin::parse(Scheme::Http, authority)
        } else {
            Some(secure)
        }
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    server: Option<String>,
    #[serde(rename = "host", default)]
    hosts: HashMap<Spanned<String>, Host>,
    #[serde(flatten)]
    own: Host,
}

#[derive(Deserialize)]
struct Host {
    #[serde(default)]
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    ca: Option<OneOrMore>,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    client: Option<toml::Value>,
    #[serde(default)]
    header: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(PathBuf),
    More(Vec<PathBuf>),
}

impl Host {
    fn may(&self, capability: &str) -> bool {
        self.capabilities
            .as_ref()
            .is_none_or(|capabilities| capabilities.iter().any(|known| known == capability))
    }

    /// The certificate files, after refusing what this client cannot do.
    fn certificates(&self, folder: &Path) -> Result<Vec<PathBuf>, String> {
        for (asked, key) in [
            (self.skip_verify, "skip_verify"),
            (self.client.is_some(), "client"),
            (self.header.is_some(), "header"),
        ] {
            if asked {
                return Err(format!("{key:?} is not supported"));
            }
        }
        Ok(match &self.ca {
            None => Vec::new(),
            Some(OneOrMore::One(path)) => vec![folder.join(path)],
            Some(OneOrMore::More(paths)) => paths.iter().map(|path| folder.join(path)).collect(),
        })
    }
}

fn registry_itself(origin: Origin) -> Source {
    Source {
        origin,
        certificates: Vec::new(),
        own: true,
        resolves: true,
        prefix: "/v2".to_owned(),
        namespace: None,
    }
}
