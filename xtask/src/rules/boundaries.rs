//! Which module of the snapshotter may name what.
//!
//! A module is a folder (or file) below `snapshotter/src`. Only code outside tests counts. What is approximate: a type
//! that is handed on under another name (`pub use`, a type alias) is not followed, and file operations are known by the
//! names of the calls.

use super::Violation;
use crate::source::{Source, has_word};
use crate::workspace::Workspace;

pub(super) fn broken(workspace: &Workspace) -> anyhow::Result<Vec<Violation>> {
    Ok(workspace.sources()?.iter().flat_map(in_source).collect())
}

fn in_source(source: &Source) -> Vec<Violation> {
    let Some(module) = source.path.strip_prefix("snapshotter/src/") else {
        return Vec::new();
    };
    let owner = module.split(['/', '.']).next().unwrap_or_default();
    BOUNDARIES
        .iter()
        .filter(|boundary| !boundary.owners.contains(&owner))
        .flat_map(|boundary| boundary.crossed_in(source, module))
        .collect()
}

/// Something that only some modules may name.
struct Boundary {
    /// The rule as a sentence.
    rule: &'static str,
    owners: &'static [&'static str],
    /// Paths, each with everything below it.
    paths: &'static [&'static str],
    /// A part of any path, such as a module's name.
    parts: &'static [&'static str],
    /// Calls, as they are written.
    calls: &'static [&'static str],
    /// Exceptions: file or folder below `src`, what it may name, reason.
    except: &'static [(&'static str, &'static [&'static str], &'static str)],
}

impl Boundary {
    fn crossed_in(&self, source: &Source, module: &str) -> Vec<Violation> {
        let is_excepted = |what: &str| {
            self.except.iter().any(|(at, allowed, _)| {
                module.starts_with(at) && allowed.iter().any(|prefix| what.starts_with(prefix))
            })
        };
        let paths = source
            .paths()
            .into_iter()
            .filter(|(_, path)| self.covers(path));
        let calls = source.numbered_code().flat_map(|(line, code)| {
            self.calls
                .iter()
                .filter(move |call| has_word(code, call))
                .map(move |call| (line, (*call).to_owned()))
        });
        paths
            .chain(calls)
            .filter(|(line, what)| !source.is_test(*line) && !is_excepted(what))
            .map(|(line, what)| {
                Violation::at(&source.path, line, format!("`{what}`: {}", self.rule))
            })
            .collect()
    }

    fn covers(&self, path: &str) -> bool {
        let below = |known: &str| {
            path.strip_prefix(known)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        self.paths.iter().any(|known| below(known))
            || path.split("::").any(|part| self.parts.contains(&part))
    }
}

const BOUNDARIES: &[Boundary] = &[
    Boundary {
        rule: "only `driver` names the engine itself; name the types you need, without a glob",
        owners: &["driver"],
        paths: &["parapull_engine::Engine", "parapull_engine::*"],
        parts: &[],
        calls: &[],
        except: &[],
    },
    Boundary {
        rule: "only `grpc` names protobuf types",
        owners: &["grpc"],
        paths: &["prost", "prost_types", "tonic_prost"],
        parts: &["proto"],
        calls: &[],
        except: &[],
    },
    Boundary {
        rule: "only `registry` names HTTP types",
        owners: &["registry"],
        paths: &[
            "http",
            "http_body",
            "http_body_util",
            "httpdate",
            "hyper",
            "hyper_util",
            "tonic::codegen::http",
        ],
        parts: &[],
        calls: &[],
        except: &[(
            "grpc/",
            &["hyper_util::rt::TokioIo", "tonic::codegen::http"],
            "gRPC is HTTP/2: its services are called with requests, its channel with a socket",
        )],
    },
    Boundary {
        rule: "only `unpack`, `spool`, `store` and `index` make files; hand the data to one of them",
        owners: &["unpack", "spool", "store", "index"],
        paths: &["tempfile"],
        parts: &[],
        calls: &[
            "File::create",
            "File::create_new",
            "OpenOptions",
            "OFlags::CREATE",
            "fs::copy",
            "fs::hard_link",
            "fs::rename",
            "fs::write",
            "create_dir",
            "create_dir_all",
            "linkat",
            "mkdirat",
            "mknodat",
            "renameat",
            "symlink",
            "symlinkat",
        ],
        except: &[
            (
                "cli/",
                &[
                    "fs::",
                    "create_dir",
                    "File::create",
                    "OpenOptions",
                    "tempfile",
                ],
                "`pull --to` makes the folder it was given and writes the manifest there: no layer data",
            ),
            (
                "driver/recorder.rs",
                &["File::create"],
                "the pull trace: no layer data",
            ),
            (
                "grpc/server.rs",
                &["fs::rename", "create_dir"],
                "a socket is bound under a hidden name and published by rename",
            ),
            (
                "remote/snapshots.rs",
                &["create_dir"],
                "it makes the folder that the spool works in",
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_it() {
        super::super::assert_kept(broken);
    }

    #[test]
    fn each_module_names_only_what_is_its_own() {
        let cases = [
            ("driver/run.rs", "use parapull_engine::{Engine, Input};", 0),
            ("cli/pull.rs", "use parapull_engine::{Engine, Input};", 1),
            ("cli/pull.rs", "use parapull_engine::*;", 1),
            (
                "cli/pull.rs",
                "use parapull_engine::{EngineState, Input};",
                0,
            ),
            ("grpc/snapshots.rs", "use super::proto::Info;", 0),
            ("store/meta.rs", "use crate::grpc::proto::Info;", 1),
            ("store/meta.rs", "fn a(b: prost_types::Timestamp) {}", 1),
            ("registry/body.rs", "use hyper::body::Frame;", 0),
            ("driver/fetch.rs", "use hyper::body::Frame;", 1),
            ("grpc/content.rs", "use hyper_util::rt::TokioIo;", 0),
            (
                "grpc/content.rs",
                "use hyper_util::client::legacy::Client;",
                1,
            ),
            ("unpack/sink.rs", "std::fs::write(a, b)", 0),
            ("driver/lane.rs", "std::fs::write(a, b)", 1),
            ("driver/lane.rs", "// fs::write(a, b)", 0),
            (
                "driver/lane.rs",
                "#[cfg(test)]\nmod tests {\n fn a() { std::fs::write(a, b) }\n}",
                0,
            ),
            ("driver/blobs.rs", "SpoolFile::create(a)", 0),
        ];
        for (module, text, expected) in cases {
            let found = in_source(&Source::new(&format!("snapshotter/src/{module}"), text));
            assert_eq!(found.len(), expected, "{module}: {text}: {found:?}");
        }
    }
}
