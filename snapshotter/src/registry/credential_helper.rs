//! Credential helpers: programs called `docker-credential-<name>` that are asked for the login of one registry.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::credentials::{Login, Secret};

/// Runs `docker-credential-<helper> get` for a registry; nothing if the helper knows none.
///
/// The program is looked for in `folder`, else along `PATH`. It is killed when it takes longer than 30 s or when the caller
/// goes away.
pub(super) async fn login(
    helper: &str,
    registry: &str,
    folder: Option<&Path>,
) -> Result<Option<Login>, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !helper.bytes().all(is_plain) {
        return Err("the name of the credential helper holds other characters than letters, digits, '-', '_' and '.'".to_owned());
    }
    let program = format!("docker-credential-{helper}");
    let path = folder.map_or_else(|| PathBuf::from(&program), |folder| folder.join(&program));
    let child = Command::new(path)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run credential helper {program}: {error}"))?;
    let answer = timeout(TIME_MAX, ask(child, registry))
        .await
        .map_err(|_| format!("credential helper {program} gave no answer within {TIME_MAX:?}"))?
        .map_err(|error| format!("cannot talk to credential helper {program}: {error}"))?;
    if !answer.success {
        let message = String::from_utf8_lossy(&answer.output);
        if message.contains(NOT_FOUND) {
            return Ok(None);
        }
        let line: String = message
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .filter(|character| !character.is_control())
            .take(200)
            .collect();
        return Err(format!("credential helper {program} failed: {line}"));
    }
    let found: Found = serde_json::from_slice(&answer.output)
        .map_err(|_| format!("credential helper {program} gave a malformed answer"))?;
    Ok(found.login())
}

struct Answer {
    success: bool,
    output: Vec<u8>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "Username", default)]
    name: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

impl Found {
    fn login(self) -> Option<Login> {
        match (self.name.as_str(), self.secret.is_empty()) {
            (_, true) => None,
            (IDENTITY_TOKEN_NAME, false) => Some(Login::IdentityToken(Secret::new(self.secret))),
            (_, false) => Some(Login::Password {
                name: self.name,
                password: Secret::new(self.secret),
            }),
        }
    }
}

async fn ask(mut child: Child, registry: &str) -> std::io::Result<Answer> {
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may answer without reading its question.
        let _ = stdin.write_all(registry.as_bytes()).await;
    }
    let output = match child.stdout.take() {
        Some(stdout) => read_bounded(stdout).await?,
        None => Vec::new(),
    };
    let status = child.wait().await?;
    Ok(Answer {
        success: status.success(),
        output,
    })
}

async fn read_bounded(stdout: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut output = Vec::new();
    stdout
        .take(OUTPUT_BYTES_MAX)
        .read_to_end(&mut output)
        .await?;
    Ok(output)
}

const TIME_MAX: Duration = Duration::from_secs(30);
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// What helpers print when they hold nothing for a registry (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &str = "credentials not found";
/// The user name under which a helper returns an identity token.
const IDENTITY_TOKEN_NAME: &str = "<token>";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_of_helpers() {
        let password = |name: &str| {
            Ok(Some(Login::Password {
                name: name.to_owned(),
                password: Secret::new("pass"),
            }))
        };
        let table = [
            ("good", password("user@r.example")),
            (
                "identity",
                Ok(Some(Login::IdentityToken(Secret::new("refresh")))),
            ),
            ("none", Ok(None)),
            (
                "locked",
                Err("credential helper docker-credential-locked failed: the keychain is locked"),
            ),
            (
                "odd",
                Err("credential helper docker-credential-odd gave a malformed answer"),
            ),
            (
                "missing",
                Err(
                    "cannot run credential helper docker-credential-missing: No such file or directory (os error 2)",
                ),
            ),
            (
                "../good",
                Err(
                    "the name of the credential helper holds other characters than letters, digits, '-', '_' and '.'",
                ),
            ),
        ];
        for (helper, expected) in table {
            let found = login(helper, "r.example", Some(Path::new(HELPERS))).await;
            assert_eq!(found, expected.map_err(str::to_owned), "{helper}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_that_hangs_is_given_up() {
        let error = login("slow", "r.example", Some(Path::new(HELPERS)))
            .await
            .unwrap_err();
        assert_eq!(
            error,
            "credential helper docker-credential-slow gave no answer within 30s"
        );
    }

    const HELPERS: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/registry_support/helpers"
    );
}
